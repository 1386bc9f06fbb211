//! The house rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files under a directory of the repository whose names end in one of `endings`, relative to the root, sorted.
fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("a directory of the repository can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                found.push(path.strip_prefix(root()).expect("it lies under the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A line of code with its number; comments are gone, and so is everything from the unit tests on, which stand last.
fn code(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_test =
        |i: usize| lines[i].trim() == "#[cfg(test)]" && lines.get(i + 1).is_some_and(|next| next.ends_with('{'));
    let end = (0..lines.len()).find(|&i| is_test(i)).unwrap_or(lines.len());
    let lines = lines.into_iter().take(end).enumerate();
    lines
        .map(|(i, line)| (i + 1, line.split(" // ").next().unwrap_or(line)))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

/// The files of the program itself: not those that a parent declares as `#[cfg(test)] mod name;`.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut paths = files(dir, &[".rs"]);
    let mut for_tests = Vec::new();
    for path in &paths {
        let text = read(path);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
        let names = declared.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
        let folder = match path.file_name().is_some_and(|name| name == "mod.rs" || name == "lib.rs") {
            true => path.parent().expect("a file lies in a folder").to_owned(),
            false => path.with_extension(""),
        };
        for_tests.extend(names.map(|name| folder.join(name)));
    }
    paths.retain(|path| !for_tests.iter().any(|test| path.with_extension("") == *test || path.starts_with(test)));
    paths
}

/// Every place in `paths` where `wrong` finds something, as `file:line: what`.
fn findings(paths: Vec<PathBuf>, wrong: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (number, line) in code(&read(&path)) {
            if let Some(what) = wrong(&path, line) {
                found.push(format!("{}:{number}: {what}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
}

/// The words of a line of code outside its texts, split at everything that cannot stand in an identifier.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let outside = line.split('"').step_by(2);
    outside.flat_map(|piece| piece.split(|c: char| !c.is_alphanumeric() && c != '_')).filter(|word| !word.is_empty())
}

#[test]
fn the_core_does_no_input_or_output_and_knows_no_clock_no_runtime_and_no_driver() {
    let banned = [
        "tokio",
        "sled::",
        "std::fs",
        "std::io",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::time",
        "Instant",
        "SystemTime",
        "fastrand",
        "rand::",
        "tokio_postgres",
        "arrow::",
        "parquet::",
        "rustix",
        "jiff",
        "async ",
        ".await",
        "crate::source",
        "crate::encode",
        "crate::destination",
        "crate::engine",
        "crate::manifest",
        "crate::verify",
        "crate::journal",
        "crate::cli",
        "crate::config",
        "crate::failpoint",
    ];
    let core = sources("src/run");
    assert!(core.len() >= 6, "the core lies in src/run");
    assert_none(findings(core, |_, line| {
        let named = banned.iter().find(|word| line.contains(**word)).map(|word| format!("the core names `{word}`"));
        // Whatever folder comes later is not the core's either.
        let mut folders =
            line.split("crate::").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
        let foreign = folders.find(|name| !["run", "error", "Error", "ErrorKind"].contains(name));
        named.or_else(|| foreign.map(|name| format!("the core names `crate::{name}`")))
    }));
}

#[test]
fn one_file_names_the_storage_engine() {
    assert_none(findings(sources("src"), |path, line| {
        let names = line.contains("sled::") || line.trim_start().starts_with("use sled");
        (names && path != Path::new("src/journal/sled_store.rs")).then(|| "names sled".to_owned())
    }));
}

#[test]
fn nothing_outside_the_tests_gives_up_without_stating_the_invariant() {
    // The failpoints exist for the tests alone, and misuse there is a mistake in a test.
    let mut paths = sources("src");
    paths.retain(|path| path != Path::new("src/failpoint.rs"));
    assert_none(findings(paths, |_, line| {
        for word in ["todo!", "unimplemented!", "dbg!", ".unwrap()", ".unwrap_err()", "unreachable!()", "panic!()"] {
            if line.contains(word) {
                return Some(format!("`{word}`"));
            }
        }
        // A message of two words or fewer states nothing.
        let message = line.split_once(".expect(\"")?.1.split('"').next()?;
        (message.split(' ').count() < 3).then(|| format!("`expect({message:?})` states no invariant"))
    }));
}

#[test]
fn only_the_command_line_prints() {
    assert_none(findings(sources("src"), |path, line| {
        let prints = identifiers(line).any(|word| ["println", "print", "eprintln", "eprint"].contains(&word));
        let allowed = path.starts_with("src/cli") || path == Path::new("src/main.rs");
        (prints && line.contains('!') && !allowed).then(|| "prints".to_owned())
    }));
}

#[test]
fn names_say_what_a_thing_is() {
    assert_none(findings(sources("src"), |_, line| {
        // Names of other libraries are theirs.
        let line = line.replace("futures_util", "").replace("arrow::util", "").replace("tokio_util", "");
        let vague = |word: &str| {
            ["Manager", "Helper", "Handler", "Util"].iter().any(|vague| word.contains(vague))
                || word.split('_').any(|piece| {
                    ["manager", "helper", "helpers", "handler", "handlers", "util", "utils"].contains(&piece)
                })
        };
        identifiers(&line).find(|word| vague(word)).map(|word| format!("`{word}`"))
    }));
    let vague_files: Vec<String> = files("src", &[".rs"])
        .into_iter()
        .filter(|path| {
            let path = path.to_string_lossy().to_lowercase();
            ["util", "helper", "manager", "handler", "misc", "common"].iter().any(|word| path.contains(word))
        })
        .map(|path| path.display().to_string())
        .collect();
    assert_none(vague_files);
}

#[test]
fn no_file_is_longer_than_a_person_reads_in_one_go() {
    let mut long = Vec::new();
    for path in [files("src", &[".rs"]), files("tests", &[".rs", ".py"])].concat() {
        let lines = read(&path).lines().count();
        if lines > 700 {
            long.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert_none(long);
}

#[test]
fn every_test_runs() {
    let attribute = concat!("#[ign", "ore");
    assert_none(findings([files("src", &[".rs"]), files("tests", &[".rs"])].concat(), |_, line| {
        line.contains(attribute).then(|| "an ignored test".to_owned())
    }));
}

/// What people wrote: code, tests, scripts, documents. Not the lock file, which names where packages come from.
fn texts() -> Vec<PathBuf> {
    let endings = [".rs", ".md", ".toml", ".py", ".sh", ".sql", ".yaml", ".yml"];
    let mut paths = [files("src", &endings), files("tests", &endings), files("docs", &endings)].concat();
    paths.extend(files("tools", &[""]));
    paths.extend(files(".ci", &[""]));
    for name in ["README.md", "CHANGELOG.md", "Cargo.toml", "deny.toml"] {
        paths.push(PathBuf::from(name));
    }
    paths
}

#[test]
fn no_package_registry_is_named() {
    let hosts = [
        concat!("crates", ".io"),
        concat!("docs", ".rs/"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".com"),
        concat!("lib", ".rs/"),
    ];
    let mut found = Vec::new();
    for path in texts() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for host in hosts {
            if text.contains(host) {
                found.push(format!("{} names {host}", path.display()));
            }
        }
    }
    assert_none(found);
}

#[test]
fn every_document_that_is_referred_to_exists() {
    let mut dangling = Vec::new();
    for path in texts() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let pieces = text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
        for piece in pieces.map(|piece| piece.trim_matches('.')) {
            let document = piece.starts_with("docs/") && piece.ends_with(".md");
            if document && !root().join(piece).exists() {
                dangling.push(format!("{} refers to {piece}", path.display()));
            }
        }
        // Decisions refer to each other by file name alone.
        if path.starts_with("docs") {
            let folder = root().join(&path).parent().expect("a file lies in a folder").to_owned();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let local = !link.is_empty() && !link.contains("://");
                if local && !folder.join(link).exists() {
                    dangling.push(format!("{} links to {link}", path.display()));
                }
            }
        }
    }
    assert_none(dangling);
}

#[test]
fn the_top_level_holds_what_belongs_there_and_nothing_else() {
    let expected = [
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "deny.toml",
        "docs",
        "fuzz",
        "rustfmt.toml",
        "src",
        "tests",
        "tools",
    ];
    // Left by version control and by builds; none of them is kept.
    let by_products = [".git", "target", "bench-data", ".rivet"];
    let mut present: Vec<String> = fs::read_dir(root())
        .expect("the repository can be listed")
        .map(|entry| entry.expect("the repository can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| !by_products.contains(&name.as_str()))
        .collect();
    present.sort();
    assert_eq!(present, expected);
}

#[test]
fn the_demonstration_installs_before_it_builds_and_leaves_no_password_in_a_file_or_an_argument() {
    let text = read(Path::new("tools/demo"));
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("tools/demo has no {what:?}"));
    assert!(at("} tools/setup plain\n") < at("\ncargo build "), "the compiler is installed by tools/setup");
    let configuration = &text[at("<<YAML\n")..at("\nYAML\n")];
    assert!(configuration.contains("url_env: ") && !configuration.contains('$'), "{configuration}");
    for line in text.lines().filter(|line| line.contains("psql -")) {
        assert!(line.contains("\"$address\"") && !line.contains("$url"), "{line}");
    }
}
