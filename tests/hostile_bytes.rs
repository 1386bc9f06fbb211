//! The corpora of the fuzz targets, replayed, and every damage of one byte to each of them.

#[path = "support/hostile.rs"]
mod hostile;

use std::fs;
use std::path::Path;

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
fn no_byte_of_a_nested_value_can_make_its_decoder_panic_or_grow() {
    replay("value", hostile::value);
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
