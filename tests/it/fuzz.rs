//! The corpora of the fuzz targets for public parsers. `tests/fuzz.sh` generates more inputs, and
//! reaches the private parsers too.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

#[test]
fn every_input_of_the_fuzz_corpora_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (target, property) in [
        ("signature", properties::signature as fn(&[u8])),
        ("envelope", properties::envelope),
        ("frame", properties::frame),
        ("retry_after", properties::retry_after),
        ("time", properties::time),
        ("types", properties::types),
        ("condition", properties::condition),
        ("configuration", properties::configuration),
    ] {
        let mut inputs = 0;
        for input in std::fs::read_dir(corpus.join(target)).unwrap() {
            property(&std::fs::read(input.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no inputs");
    }
}
