//! `tuning`: a profile's presets, under what the source says, under what the export says, key by key.

use super::section::Field;
use super::{Profile, Tuning};
use crate::error::Result;
use std::time::Duration;

pub const KEYS: &[&str] = &[
    "profile",
    "parallel",
    "batch_size",
    "batch_size_memory_mb",
    "memory_budget_mb",
    "throttle_ms",
    "statement_timeout_s",
    "lock_timeout_s",
    "stall_timeout_s",
    "max_retries",
    "retry_backoff_ms",
    "adaptive",
    "min_parallel",
    "max_value_mb",
    "max_batch_memory_mb",
    "on_batch_memory_exceeded",
];

const DAY_S: u64 = 24 * 3600;
pub const MAX_PARALLEL: u64 = 128;

/// What one level of the file says. `None`: nothing.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    pub profile: Option<Profile>,
    pub parallel: Option<usize>,
    batch_size: Option<usize>,
    batch_size_memory_mb: Option<usize>,
    memory_budget_mb: Option<usize>,
    throttle_ms: Option<u64>,
    statement_timeout_s: Option<u64>,
    lock_timeout_s: Option<u64>,
    stall_timeout_s: Option<u64>,
    pub max_retries: Option<u32>,
    retry_backoff_ms: Option<u64>,
    max_value_mb: Option<usize>,
    max_batch_memory_mb: Option<usize>,
}

pub fn read(field: &Field<'_>) -> Result<Layer> {
    let section = field.section(KEYS)?;
    let number = |key, range| section.get(key).map(|field| field.number(range)).transpose();
    if let Some(field) = section.get("adaptive")
        && field.flag()?
    {
        return Err(field.unsupported("asks for a governor that this version does not have", "Set `parallel` by hand."));
    }
    number("min_parallel", 1..=MAX_PARALLEL)?;
    if let Some(field) = section.get("on_batch_memory_exceeded")
        && !field.word(&[("auto_shrink", true), ("warn", false), ("fail", false)])?
    {
        return Err(field.unsupported("asks for what this version does not do", "`auto_shrink` is what it does."));
    }
    let profile = [("fast", Profile::Fast), ("balanced", Profile::Balanced), ("safe", Profile::Safe)];
    Ok(Layer {
        profile: section.get("profile").map(|field| field.word(&profile)).transpose()?,
        parallel: number("parallel", 1..=MAX_PARALLEL)?.map(|n| n as usize),
        batch_size: number("batch_size", 1..=10_000_000)?.map(|n| n as usize),
        batch_size_memory_mb: number("batch_size_memory_mb", 1..=65_536)?.map(|n| n as usize),
        memory_budget_mb: number("memory_budget_mb", 16..=1_048_576)?.map(|n| n as usize),
        throttle_ms: number("throttle_ms", 0..=3_600_000)?,
        statement_timeout_s: number("statement_timeout_s", 0..=DAY_S * 20)?,
        lock_timeout_s: number("lock_timeout_s", 0..=DAY_S * 20)?,
        stall_timeout_s: number("stall_timeout_s", 1..=DAY_S * 20)?,
        max_retries: number("max_retries", 0..=1_000)?.map(|n| n as u32),
        retry_backoff_ms: number("retry_backoff_ms", 0..=60_000)?,
        max_value_mb: number("max_value_mb", 1..=1_024)?.map(|n| n as usize),
        max_batch_memory_mb: number("max_batch_memory_mb", 1..=65_536)?.map(|n| n as usize),
    })
}

/// The presets of config.md, line by line.
struct Preset {
    parallel: usize,
    batch_size: usize,
    batch_size_memory_mb: Option<usize>,
    memory_budget_mb: usize,
    throttle_ms: u64,
    statement_timeout_s: u64,
    lock_timeout_s: u64,
    max_retries: u32,
    retry_backoff_ms: u64,
}

fn preset(profile: Profile) -> Preset {
    match profile {
        Profile::Fast => Preset {
            parallel: std::thread::available_parallelism().map_or(2, |n| n.get()).min(MAX_PARALLEL as usize),
            batch_size: 50_000,
            batch_size_memory_mb: Some(64),
            memory_budget_mb: 256,
            throttle_ms: 0,
            statement_timeout_s: 0,
            lock_timeout_s: 0,
            max_retries: 1,
            retry_backoff_ms: 1_000,
        },
        Profile::Balanced => Preset {
            parallel: 2,
            batch_size: 10_000,
            batch_size_memory_mb: Some(32),
            memory_budget_mb: 128,
            throttle_ms: 0,
            statement_timeout_s: 300,
            lock_timeout_s: 30,
            max_retries: 3,
            retry_backoff_ms: 2_000,
        },
        Profile::Safe => Preset {
            parallel: 1,
            batch_size: 2_000,
            batch_size_memory_mb: None,
            memory_budget_mb: 96,
            throttle_ms: 500,
            statement_timeout_s: 120,
            lock_timeout_s: 10,
            max_retries: 10,
            retry_backoff_ms: 5_000,
        },
    }
}

/// Lays `export` over `source` over the preset of whichever profile the two settle on.
pub fn resolve(suggested: Option<Profile>, source: &Layer, export: &Layer) -> Tuning {
    let profile = export.profile.or(source.profile).or(suggested).unwrap_or(Profile::Balanced);
    let preset = preset(profile);
    macro_rules! key {
        ($key:ident) => {
            export.$key.or(source.$key)
        };
    }
    Tuning {
        profile,
        parallel: key!(parallel).unwrap_or(preset.parallel),
        batch_size: key!(batch_size).unwrap_or(preset.batch_size),
        batch_size_memory_mb: batch_memory(&preset, source, export),
        max_batch_memory_mb: key!(max_batch_memory_mb),
        memory_budget_mb: key!(memory_budget_mb).unwrap_or(preset.memory_budget_mb),
        throttle: Duration::from_millis(key!(throttle_ms).unwrap_or(preset.throttle_ms)),
        statement_timeout: Duration::from_secs(key!(statement_timeout_s).unwrap_or(preset.statement_timeout_s)),
        lock_timeout: Duration::from_secs(key!(lock_timeout_s).unwrap_or(preset.lock_timeout_s)),
        stall_timeout: Duration::from_secs(key!(stall_timeout_s).unwrap_or(300)),
        max_retries: key!(max_retries).unwrap_or(preset.max_retries),
        retry_backoff: Duration::from_millis(key!(retry_backoff_ms).unwrap_or(preset.retry_backoff_ms)),
        max_value_mb: key!(max_value_mb).unwrap_or(256),
    }
}

/// The level nearest to the export that speaks of batches decides: a memory target derives the rows from it, a number
/// of rows set by hand turns that off. `max_batch_memory_mb` caps the target.
fn batch_memory(preset: &Preset, source: &Layer, export: &Layer) -> Option<usize> {
    let speaks = |layer: &&Layer| layer.batch_size.is_some() || layer.batch_size_memory_mb.is_some();
    let target = match [export, source].into_iter().find(speaks) {
        Some(layer) => layer.batch_size_memory_mb,
        None => preset.batch_size_memory_mb,
    };
    let most = export.max_batch_memory_mb.or(source.max_batch_memory_mb).unwrap_or(usize::MAX);
    target.map(|target| target.min(most))
}
