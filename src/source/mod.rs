//! Where rows come from.

pub mod postgres;
