//! `ferrite quickstart`: what it learns from nothing, with the recipe as it is.
#![cfg(feature = "cli")]

mod cli_common;

use cli_common::{ferrite, quickstart};

/// The whole of it, to the quality that README promises.
#[test]
fn a_small_bert_learns_the_little_language() {
    let own = tempfile::tempdir().unwrap();
    let (report, out) =
        quickstart(&["quickstart"], "FERRITE_TEST_QUICKSTART", own.path().join("bert"));
    let scores = report["scores"].as_array().unwrap();
    let of = |index: usize, who: &str| scores[index][who].as_f64().unwrap();
    for (index, least) in [(0, 0.75), (1, 0.90), (2, 0.90)] {
        let [trained, untrained] = ["trained", "untrained"].map(|who| of(index, who));
        assert!(trained >= least, "{} is below {least}", scores[index]);
        assert!(untrained <= 0.70, "{}", scores[index]);
        assert!(of(index, "commonest") <= 0.66, "{}", scores[index]);
        assert!(scores[index]["questions"].as_u64().unwrap() >= 500);
    }
    let guess = |gap: usize, who: &str| report["gaps"][gap][who][0][0].as_str().unwrap().to_owned();
    assert_eq!([2, 3, 4].map(|gap| guess(gap, "trained")), ["mixed", "loaf", "wet"]);
    assert_ne!([2, 3, 4].map(|gap| guess(gap, "untrained")), ["mixed", "loaf", "wet"]);

    // What is left behind can be used, and is not overwritten unasked.
    for file in ["corpus.txt", "loss.svg", "vocab.txt", "model.safetensors"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let folders = [out.clone(), out.join("task")];
    for folder in &folders {
        let run = ferrite(&["inspect", "--model"]).arg(folder).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    }
    let again = ferrite(&["quickstart", "--out"]).arg(&out).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("--overwrite"), "{said}");
}
