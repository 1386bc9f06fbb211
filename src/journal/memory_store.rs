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
    /// Entries from `from` on, below `to` where there is one.
    fn entries(&self, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = (&Box<[u8]>, &Box<[u8]>)> {
        // The map panics on a range that ends before it begins; here it holds nothing.
        let to = to.map(|to| to.max(from));
        self.values.range::<[u8], _>((Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded)))
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
        for (key, value) in self.entries(from, to) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, from: &[u8], to: Option<&[u8]>) -> io::Result<u64> {
        let doomed: Vec<Box<[u8]>> = self.entries(from, to).map(|(key, _)| key.clone()).collect();
        for key in &doomed {
            self.values.remove(key);
        }
        Ok(doomed.len() as u64)
    }
}
