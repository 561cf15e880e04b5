//! The committed inputs of every fuzz target, among them each that once did harm.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aquatint_tests::fuzz::TARGETS;

/// No input is large; one that takes longer shows something that is not linear.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn no_input_does_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let files = fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("the corpus of {name}: {e}"));
        let paths: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
        assert!(!paths.is_empty(), "{name} has inputs");
        for path in paths {
            println!("{}", path.display()); // the last one is the culprit
            let bytes = fs::read(&path).expect("a readable file");
            let start = Instant::now();
            target(&bytes);
            let time = start.elapsed();
            assert!(time < LONGEST, "{} took {time:?}", path.display());
        }
    }
}
