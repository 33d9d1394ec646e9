//! BERT and the Transformer: checkpoints, inference, and the program ferrite.
#![forbid(unsafe_code)]
