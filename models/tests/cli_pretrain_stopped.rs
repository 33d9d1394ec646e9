//! `ferrite pretrain` that is killed, stopped, or finds its checkpoints damaged: the bits are those of
//! the run that nothing happened to.
#![cfg(all(feature = "cli", unix))]

mod cli_common;
mod cli_training_common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_training_common::{
    End, SAVE_EVERY, STEPS, Setting, ended, going_on_after, killed_25_times, newest, signal, steps,
};
use ferrite_kernels::testing::Random;

#[test]
fn a_run_that_is_killed_25_times_ends_with_the_same_bits() {
    let setting = Setting::new();
    let start = Instant::now();
    let expected = setting.straight();
    let length = start.elapsed();
    for name in ["config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "loss.svg"] {
        assert!(expected.has(name), "{name}");
    }

    killed_25_times(setting.folder.path(), &expected, length, |out, arguments| {
        setting.command(out, arguments)
    });
}

#[test]
fn ctrl_c_saves_and_the_run_goes_on() {
    let setting = Setting::new();
    let expected = setting.straight();
    let (mut stopped, mut tries) = (0, 0);
    // After how many steps: none is while the text is read.
    let whens = [0, 1, 6, 20];
    while stopped < whens.len() {
        // A run may end before the signal comes, if the machine is busy.
        tries += 1;
        assert!(tries < 40, "{stopped} stops in {tries} tries");
        let (signals, out) = (["INT", "TERM"], setting.path(&format!("stopped-{tries}")));
        let mut child = setting.command(&out, &["--threads", "2"]).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        err.read_line(&mut said).unwrap();
        assert!(said.contains("60 documents in 1 file"), "{said}");
        let lines = || {
            let log = fs::read(out.join("log.jsonl")).unwrap_or_default();
            log.iter().filter(|&&byte| byte == b'\n').count()
        };
        while lines() < whens[stopped] && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        signal(&child, signals[stopped % 2]);
        err.read_to_string(&mut said).unwrap();
        let run = ended(child);
        if run.code == Some(0) {
            continue;
        }
        stopped += 1;
        assert_eq!((run.code, &*run.out), (Some(130), ""), "{said}");
        let step = newest(&out).expect("it is saved");
        let end = format!(
            "stopped after step {step} of {STEPS}, which is saved; the same command with --resume \
             goes on\n"
        );
        assert!(said.ends_with(&end), "{said}");
        let run = setting.run(&out, &["--resume"]).code(0);
        assert_eq!(going_on_after(&run.err), Some(step));
        // The step at which it was stopped has a checkpoint of its own, which is gone since.
        End::of(&out, &run).assert_is(&expected, &said);
    }
}

#[test]
fn a_second_ctrl_c_ends_it_at_once_and_loses_no_checkpoint() {
    let setting = Setting::new();
    let expected = setting.straight();
    let out = setting.path("out");
    let child = setting.command(&out, &[]).spawn().unwrap();
    while steps(&out).is_empty() {
        sleep(Duration::from_micros(200));
    }
    let before = newest(&out);
    signal(&child, "INT");
    signal(&child, "INT");
    let run = ended(child);
    assert!([Some(130), Some(0)].contains(&run.code), "{run:?}");
    assert!(newest(&out) >= before);
    let run = setting.run(&out, &["--resume"]).code(0);
    End::of(&out, &run).assert_is(&expected, "two signals");
}

#[test]
fn a_flipped_bit_is_told_of_and_the_checkpoint_before_is_taken() {
    let setting = Setting::new();
    let expected = setting.straight();
    let mut random = Random::new(3);
    for (number, file) in
        ["model.safetensors", "m.safetensors", "v.safetensors", "state.json", "commit.json"]
            .into_iter()
            .enumerate()
    {
        let out = setting.path(&format!("flipped-{number}"));
        let step = setting.killed(&out, 2);
        let folder = format!("step-{step:08}");
        let path = out.join("checkpoints").join(&folder).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let bit = random.below(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let run = setting.run(&out, &["--resume"]).code(0);
        let said = "a checkpoint is damaged, and the one before is taken: ";
        let place = format!("{folder}/{file}");
        let lines: Vec<&str> = run.err.lines().filter(|line| line.contains(said)).collect();
        assert!(lines.len() == 1 && lines[0].contains(&place), "{place}: {}", run.err);
        assert_eq!(going_on_after(&run.err), Some(step - SAVE_EVERY));
        End::of(&out, &run).assert_is(&expected, file);
    }
    // All of them: it does not begin anew in silence.
    let out = setting.path("all");
    setting.killed(&out, 2);
    for step in steps(&out) {
        let path = out.join(format!("checkpoints/step-{step:08}/state.json"));
        fs::write(path, "{}").unwrap();
    }
    for more in [&["--resume"][..], &[]] {
        let run = setting.run(&out, more).code(1);
        assert!(run.err.contains("no checkpoint is whole; the newest: "), "{}", run.err);
        assert!(run.err.contains("state.json: "), "{}", run.err);
        assert!(run.err.ends_with("Take another --out to begin anew.\n"), "{}", run.err);
    }
}

#[test]
fn a_complete_run_that_is_resumed_makes_what_was_lost() {
    let setting = Setting::new();
    let expected = setting.straight();
    let out = setting.path("straight");
    for lost in ["model.safetensors", "config.json", "loss.svg"] {
        fs::remove_file(out.join(lost)).unwrap();
        let run = setting.run(&out, &["--resume"]).code(0);
        End::of(&out, &run).assert_is(&expected, lost);
    }
}
