//! One script against both stores.

use super::memory_store::MemoryStore;
use super::sled_store::SledStore;
use super::store::{Key, Store};
use crate::run::ids::{EventSeq, RunOrdinal};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::Path;

#[derive(Debug, Clone)]
enum Step {
    /// A key, and the length and filling of its value.
    Insert(Key, usize, u8),
    Flush,
    Sync,
    /// From, to, and how many entries to look at.
    Scan(Vec<u8>, Option<Vec<u8>>, usize),
    Remove(Vec<u8>, Option<Vec<u8>>),
    Reopen,
}

fn key() -> impl Strategy<Value = Key> {
    (0..4u32, prop_oneof![0..40u64, Just(u64::MAX), Just(1 << 32)])
        .prop_map(|(run, seq)| Key::new(RunOrdinal(run), EventSeq(seq)))
}

fn bound() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => key().prop_map(|key| key.0.to_vec()),
        1 => key().prop_map(|key| key.0[..5].to_vec()),
        1 => key().prop_map(|key| [&key.0[..], &[0]].concat()),
        1 => Just(Vec::new()),
        1 => Just(vec![0xff; 13]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![0..300usize, Just(4096), Just(4095)];
    prop_oneof![
        12 => (key(), length, any::<u8>()).prop_map(|(key, length, fill)| Step::Insert(key, length, fill)),
        2 => Just(Step::Flush),
        1 => Just(Step::Sync),
        4 => (bound(), proptest::option::of(bound()), 0..60usize).prop_map(|(from, to, n)| Step::Scan(from, to, n)),
        2 => (bound(), proptest::option::of(bound())).prop_map(|(from, to)| Step::Remove(from, to)),
        1 => Just(Step::Reopen),
    ]
}

fn scan(store: &dyn Store, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = Vec::new();
    store
        .scan(from, to, &mut |key, value| {
            if seen.len() == limit {
                return ControlFlow::Break(());
            }
            seen.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    seen
}

/// sled gives its lock back a moment after it was dropped.
fn reopen(dir: &Path) -> SledStore {
    super::disk::wait_for_engine_lock(&super::disk::Paths::new(dir)).unwrap();
    SledStore::open(&dir.join("log")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_and_the_one_in_memory_do_the_same(script in proptest::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Some(reopen(dir.path()));
        let mut memory = MemoryStore::default();
        for step in script {
            let store = disk.as_mut().unwrap();
            match step {
                Step::Insert(key, length, fill) => {
                    let value = vec![fill; length];
                    prop_assert_eq!(
                        store.insert_if_absent(key, &value).unwrap(),
                        memory.insert_if_absent(key, &value).unwrap()
                    );
                }
                Step::Flush => store.flush().unwrap(),
                Step::Sync => store.sync().unwrap(),
                Step::Scan(from, to, limit) => prop_assert_eq!(
                    scan(store, &from, to.as_deref(), limit),
                    scan(&memory, &from, to.as_deref(), limit)
                ),
                Step::Remove(from, to) => prop_assert_eq!(
                    store.remove(&from, to.as_deref()).unwrap(),
                    memory.remove(&from, to.as_deref()).unwrap()
                ),
                Step::Reopen => {
                    drop(disk.take());
                    disk = Some(reopen(dir.path()));
                }
            }
        }
        let store = disk.as_ref().unwrap();
        prop_assert_eq!(scan(store, &[], None, usize::MAX), scan(&memory, &[], None, usize::MAX));
    }
}

#[test]
fn removing_more_than_fits_in_one_turn_removes_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = reopen(dir.path());
    let key = |seq| Key::new(RunOrdinal(1), EventSeq(seq));
    for seq in 0..2500 {
        assert!(store.insert_if_absent(key(seq), &[1]).unwrap());
    }
    assert_eq!(store.remove(&key(10).0, Some(&key(2490).0)).unwrap(), 2480);
    assert_eq!(scan(&store, &[], None, usize::MAX).len(), 20);
}
