//! The store of an in-memory journal, and of one that was read from a copy or from text.

use super::store::{Key, Store, Visit};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

#[derive(Debug, Default)]
pub struct MemoryStore {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl MemoryStore {
    fn keys_in(&self, from: &[u8], to: Option<&[u8]>) -> Option<(Bound<Box<[u8]>>, Bound<Box<[u8]>>)> {
        // A range that ends before it begins holds nothing; the map would panic on it.
        if to.is_some_and(|to| to <= from) {
            return None;
        }
        Some((Bound::Included(from.into()), to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.into()))))
    }
}

impl Store for MemoryStore {
    fn insert_if_absent(&mut self, key: Key, value: &[u8]) -> io::Result<bool> {
        match self.values.entry(Box::from(key.0.as_slice())) {
            std::collections::btree_map::Entry::Occupied(_) => Ok(false),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(value.into());
                Ok(true)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> io::Result<()> {
        let Some(range) = self.keys_in(from, to) else { return Ok(()) };
        for (key, value) in self.values.range(range) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, from: &[u8], to: Option<&[u8]>) -> io::Result<u64> {
        let Some(range) = self.keys_in(from, to) else { return Ok(0) };
        let doomed: Vec<Box<[u8]>> = self.values.range(range).map(|(key, _)| key.clone()).collect();
        for key in &doomed {
            self.values.remove(key);
        }
        Ok(doomed.len() as u64)
    }
}
