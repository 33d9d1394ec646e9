//! What the trainings of this program have in common.
//!
//! ```text
//! options      what each of them is told
//! vocabulary   the tokenizer of a run
//! memory       what a run takes of the machine's memory
//! course       step after step, and what is said and saved in between
//! pace         how far it is, and how fast
//! failure      what can be done about an error
//! ```

mod course;
mod failure;
mod memory;
mod options;
mod pace;
mod vocabulary;

pub(crate) use course::{Told, follow, stop_on_interrupt};
pub(crate) use failure::failure;
pub(crate) use memory::tell_memory;
pub(crate) use options::{CourseOptions, check_counts, check_part, check_rate};
pub(crate) use vocabulary::{Vocabulary, VocabularyOptions};
