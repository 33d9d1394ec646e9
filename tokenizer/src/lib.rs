//! BERT normalisation, pre-tokenisation and WordPiece.
#![forbid(unsafe_code)]
