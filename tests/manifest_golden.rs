//! Format 1 of the manifest, held still: the journal of a run that was killed and resumed, and the manifest that it led
//! to, as version 0.1.0 wrote them. A manifest of a release can be verified by every later one; neither file is ever
//! written anew.

use rivet::journal::reader;
use rivet::manifest::model::Manifest;
use rivet::manifest::read;
use rivet::run::RunSummary;
use rivet::run::event::{Event, Recorded};
use rivet::run::ids::Fingerprint;
use rivet::verify::replay::against_manifest;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest-v1").join(name)
}

fn events() -> Vec<Recorded> {
    let journals = reader::read(&golden("orders.jsonl")).unwrap();
    journals[0].records(journals[0].last_run().unwrap()).unwrap()
}

fn bytes() -> Vec<u8> {
    std::fs::read(golden("manifest.json")).unwrap()
}

/// What a replay says about these events and a manifest of these bytes; `None` when they tell the same story.
fn told(events: &[Recorded], bytes: &[u8]) -> Option<String> {
    let manifest: Manifest = read::parse(bytes).unwrap();
    let summary = RunSummary::from_events(events);
    against_manifest(events, &summary, (&manifest, Fingerprint::of(bytes))).map(|found| found.what)
}

/// The events as if the manifest had been written with these bytes.
fn having_written(bytes: &[u8]) -> Vec<Recorded> {
    let mut events = events();
    for recorded in &mut events {
        if let Event::ManifestWritten(written) = &mut recorded.event {
            written.fingerprint = Fingerprint::of(bytes);
        }
    }
    events
}

#[test]
fn a_manifest_of_format_1_is_verified_by_its_journal() {
    let manifest = read::parse(&bytes()).unwrap();
    assert_eq!((manifest.row_count, manifest.part_count), (3_000, 3));
    assert_eq!(manifest.consistency.kind, "mixed");
    assert!(manifest.parts.iter().all(|part| part.key_range.is_some()));
    assert_eq!(told(&events(), &bytes()), None);
}

#[test]
fn fields_that_one_side_does_not_know_and_another_layout_are_no_contradiction() {
    let mut later: serde_json::Value = serde_json::from_slice(&bytes()).unwrap();
    later["colour"] = "of a later version".into();
    later["parts"][1]["colour"] = "too".into();
    later["source"]["colour"] = "too".into();
    later["parts"][0].as_object_mut().unwrap().remove("key_range").unwrap();
    let later = serde_json::to_vec(&later).unwrap();
    assert_eq!(told(&having_written(&later), &later), None);
}

#[test]
fn a_manifest_that_says_something_else_than_its_events_is_found_whoever_wrote_it() {
    let cases: [(&str, serde_json::Value); 6] = [
        ("/source/mode", "full".into()),
        ("/source/relation", "public.others".into()),
        ("/destination/uri", "file:///elsewhere".into()),
        ("/compression", "snappy".into()),
        ("/consistency/snapshots/1/lsn", "0/1".into()),
        ("/schema/1/source_type", "name".into()),
    ];
    for (place, value) in cases {
        let mut changed: serde_json::Value = serde_json::from_slice(&bytes()).unwrap();
        *changed.pointer_mut(place).unwrap() = value;
        let changed = serde_json::to_vec_pretty(&changed).unwrap();
        let found = told(&having_written(&changed), &changed).unwrap();
        let named = place[1..].replace('/', ".");
        assert!(found.contains(&named), "{place}: {found}");
    }
    let mut with_a_cursor: serde_json::Value = serde_json::from_slice(&bytes()).unwrap();
    with_a_cursor["source"]["cursor"] = serde_json::json!({"column": "id", "from": null, "to": null});
    let with_a_cursor = serde_json::to_vec(&with_a_cursor).unwrap();
    assert!(told(&having_written(&with_a_cursor), &with_a_cursor).unwrap().contains("source.cursor"));
}

#[test]
fn a_manifest_whose_bytes_are_not_those_that_were_written_is_found_although_it_says_the_same() {
    let manifest: serde_json::Value = serde_json::from_slice(&bytes()).unwrap();
    let found = told(&events(), &serde_json::to_vec(&manifest).unwrap()).unwrap();
    assert!(found.contains("were written"), "{found}");
}
