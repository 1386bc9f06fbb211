//! The corpora of the fuzz targets, replayed, and every damage of one byte to each of them.

#[path = "support/hostile.rs"]
mod hostile;

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

fn replay(target: &str, parse: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let bytes = fs::read(entry.expect("a corpus can be listed").path()).expect("a corpus can be read");
        parse(&bytes);
        for end in 0..bytes.len() {
            parse(&bytes[..end]);
        }
        let mut damaged = bytes.clone();
        for i in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                damaged[i] = bytes[i] ^ change;
                parse(&damaged);
            }
            damaged[i] = bytes[i];
        }
        replayed += 1;
    }
    assert!(replayed > 0, "{} holds no corpus", folder.display());
}

#[test]
fn no_byte_of_a_journal_value_can_make_its_reader_panic() {
    replay("envelope", hostile::envelope);
}

#[test]
fn no_byte_of_a_copy_stream_can_make_the_decoder_panic() {
    replay("copy_stream", hostile::copy_stream);
}

#[test]
fn no_byte_of_an_array_can_make_its_decoder_panic_or_grow() {
    replay("array", hostile::array);
}

#[test]
fn no_byte_of_a_composite_value_can_make_its_decoder_panic_or_grow() {
    replay("record", hostile::record);
}

#[test]
fn no_byte_of_a_range_or_multirange_can_make_its_decoder_panic_or_grow() {
    replay("range", hostile::range);
}

#[test]
fn no_byte_of_an_hstore_can_make_its_decoder_panic_or_grow() {
    replay("hstore", hostile::hstore);
}

#[test]
fn no_byte_of_a_vector_can_make_its_decoder_panic_or_grow() {
    replay("vector", hostile::vector);
}

#[test]
fn no_byte_of_a_numeric_can_make_its_decoders_panic_or_grow() {
    replay("numeric", hostile::numeric);
}

#[test]
fn no_byte_of_an_interval_can_make_its_decoder_panic() {
    replay("interval", hostile::interval);
}

#[test]
fn every_fuzz_target_is_replayed_here_from_a_corpus_of_its_own() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(folder)).expect("the folder can be listed");
        let stem =
            |entry: io::Result<fs::DirEntry>| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned());
        entries.filter_map(stem).collect()
    };
    let here = include_str!("hostile_bytes.rs");
    let replayed = |name: &String| here.contains(&format!("replay({name:?}, hostile::{name});"));
    let targets = names("fuzz_targets");
    assert_eq!(targets, names("corpus"), "a target without a corpus, or a corpus without a target");
    assert!(targets.len() > 10 && targets.iter().all(replayed), "{targets:?} are not all replayed");
}

#[test]
fn no_byte_of_a_manifest_can_make_its_reader_panic() {
    replay("manifest", hostile::manifest);
}

#[test]
fn no_byte_of_a_success_mark_can_make_its_reader_panic() {
    replay("success", hostile::success);
}

#[test]
fn no_byte_of_a_payload_can_make_its_reader_panic() {
    replay("payload", hostile::payload);
}

#[test]
fn no_event_in_any_place_can_make_the_folds_panic_and_a_refused_one_changes_nothing() {
    replay("fold", hostile::fold);
}

#[test]
fn no_byte_of_a_configuration_can_make_its_reader_panic() {
    replay("config", hostile::config);
}
