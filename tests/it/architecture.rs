//! The floors of the architecture, read from the imports: down only, never up or sideways, each outside thing in its
//! one folder, no file too long.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules by floor. `config` lies between vocabulary and decisions: its checked types are what decisions are given.
const FLOORS: [(&str, u8); 27] = [
    ("model", 0),
    ("time", 0),
    ("units", 0),
    ("config", 1),
    ("motion", 2),
    ("outbox", 2),
    ("restart", 2),
    ("wire", 2),
    // Commands and twins are read out of signed documents.
    ("command", 3),
    ("twin", 3),
    // Waits are made of the restart policy.
    ("link", 3),
    ("live", 3),
    // Events are made of verdicts.
    ("recording", 3),
    ("upload", 3),
    // What the cloud answers is understood by `wire`.
    ("claim", 3),
    // What is decoded follows from verdicts, and from what the ring still holds.
    ("demand", 4),
    // What events would have been: recording, replayed.
    ("tuning", 5),
    ("media", 5),
    ("db", 5),
    ("cloud", 5),
    ("spool", 5),
    ("board", 5),
    ("supervise", 5),
    ("agent", 6),
    ("daemon", 7),
    ("cli", 8),
    ("main", 9),
];

/// Crates that one folder alone may name.
const ADAPTERS: [(&str, &str); 18] = [
    ("gstreamer", "media"),
    ("gstreamer_app", "media"),
    ("gstreamer_video", "media"),
    ("retina", "media"),
    ("v4l", "media"),
    ("rusqlite", "db"),
    ("rusqlite_migration", "db"),
    ("reqwest", "cloud"),
    ("http_body", "cloud"),
    ("rumqttc", "cloud"),
    ("tokio_rustls", "cloud"),
    ("sd_notify", "supervise"),
    ("zbus", "board"),
    ("gpiocdev", "board"),
    ("evdev", "board"),
    ("mdns_sd", "board"),
    ("qrcode", "cli"),
    ("embedded_graphics", "tuning"),
];

/// Files that are only compiled for tests, which may look anywhere.
const FOR_TESTS: [&str; 1] = ["demand/fuzz/shell.rs"];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn module_of(file: &Path) -> String {
    let below = file.strip_prefix(src()).unwrap();
    let first = below
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(m, _)| *m == module).map(|(_, f)| *f)
}

/// Code without comments and without what is only compiled for tests (by convention the last item of a file).
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text
        .split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap()
        .to_owned();
    text.lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Modules named as `crate::x`, also inside `use crate::{x, y::z}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut fresh = true;
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    c if fresh && depth == 0 && is_word(c) => {
                        found.insert(list[i..].chars().take_while(|c| is_word(*c)).collect());
                        fresh = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    found.into_iter().filter(|m| floor(m).is_some()).collect()
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for file in sources(&src()) {
        let module = module_of(&file);
        if module == "lib" || FOR_TESTS.iter().any(|f| file.ends_with(f)) {
            continue;
        }
        let own =
            floor(&module).unwrap_or_else(|| panic!("{module} is on no floor: add it to FLOORS"));
        for import in imports(&code(&file)) {
            if import != module && floor(&import).unwrap() >= own {
                wrong.push(format!(
                    "{} imports {import}",
                    file.strip_prefix(src()).unwrap().display()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that go up or sideways: {wrong:#?}"
    );
}

#[test]
fn each_outside_thing_is_named_in_one_folder() {
    let mut wrong = Vec::new();
    for file in sources(&src()) {
        let (module, code) = (module_of(&file), code(&file));
        for (name, home) in ADAPTERS {
            let named =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name} "));
            // A module of our own may share the name of an adapter's crate only inside that adapter.
            if named && module != home && !code.contains(&format!("mod {name};")) {
                wrong.push(format!(
                    "{} names {name}",
                    file.strip_prefix(src()).unwrap().display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn decisions_have_no_clock_no_io_no_randomness() {
    let mut wrong = Vec::new();
    for file in sources(&src()) {
        let module = module_of(&file);
        if floor(&module).is_none_or(|f| f > 3) && module != "tuning" {
            continue;
        }
        let code = code(&file);
        for banned in [
            "async fn",
            "tokio::",
            "std::fs",
            "std::net",
            "Instant",
            "SystemTime",
            "rand::",
            "std::thread",
        ] {
            if code.contains(banned) {
                wrong.push(format!(
                    "{} uses {banned}",
                    file.strip_prefix(src()).unwrap().display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reference_cloud_never_imports_the_agent() {
    let manifest = std::fs::read_to_string(src().join("../tests/cloud/Cargo.toml")).unwrap();
    let names_agent = |line: &str| {
        line.trim_start().starts_with("sentrycam ") || line.trim_start().starts_with("sentrycam=")
    };
    assert!(
        !manifest.lines().any(names_agent),
        "tests/cloud depends on sentrycam"
    );
}

#[test]
fn no_file_is_too_long_and_every_module_says_what_it_is_for() {
    let root = src().join("..");
    let mut wrong = Vec::new();
    let folders = [
        "src",
        "tests/it",
        "tests/cloud",
        "tests/camera",
        "tests/demo",
        "benches",
        "examples",
    ];
    for file in folders.iter().flat_map(|f| sources(&root.join(f))) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines > 500 {
            wrong.push(format!("{} has {lines} lines", file.display()));
        }
        let test_part = file
            .file_stem()
            .is_some_and(|s| s.to_string_lossy().ends_with("tests"));
        if !text.starts_with("//!") && !test_part {
            wrong.push(format!("{} does not begin with //!", file.display()));
        }
    }
    let main = std::fs::read_to_string(src().join("main.rs")).unwrap();
    assert!(
        main.lines().count() < 60,
        "main.rs has {} lines",
        main.lines().count()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_test_sees_an_import_that_goes_up() {
    assert_eq!(
        imports("use crate::agent::camera;"),
        BTreeSet::from(["agent".to_owned()])
    );
    let both = BTreeSet::from(["agent".to_owned(), "db".to_owned(), "model".to_owned()]);
    assert_eq!(
        imports("use crate::{agent, db::{Db, model as m}, model::ids};"),
        both
    );
}
