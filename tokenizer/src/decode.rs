//! Ids to text.

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// How tokens are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// A space before each token that does not carry the prefix.
    WordPiece {
        prefix: String,
        /// Whether spaces before punctuation and English endings are removed.
        cleanup: bool,
    },
    /// A space before each token.
    Spaces,
}

impl Tokenizer {
    /// The text that the ids stand for, as the `tokenizers` crate joins them:
    /// pieces with their word, words with spaces between, and (if the file
    /// says so) no space before `.`, `,`, `n't` and the like.
    ///
    /// What normalisation removed does not come back. Where the original text
    /// is at hand, [`Encoding::offsets`](crate::Encoding) point into it.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] for an id that no token has.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Error> {
        let mut text = String::new();
        let mut first = true;
        for &id in ids {
            let token = self.id_to_token(id).ok_or(Error::UnknownId { id })?;
            if skip_special_tokens && self.added.is_special(token) {
                continue;
            }
            match &self.decoder {
                Decoder::Spaces => {
                    text.push_str(if first { "" } else { " " });
                    text.push_str(token);
                }
                Decoder::WordPiece { prefix, cleanup: clean } => {
                    let piece = match token.strip_prefix(prefix.as_str()) {
                        _ if first => token.to_owned(),
                        Some(rest) => rest.to_owned(),
                        None => format!(" {token}"),
                    };
                    text.push_str(&if *clean { cleanup(piece) } else { piece });
                }
            }
            first = false;
        }
        Ok(text)
    }
}

/// The reference's list. It is applied to one token and the space before it,
/// so that those with a space inside or behind fit no ordinary token.
const CLEANUP: [(&str, &str); 11] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

fn cleanup(mut piece: String) -> String {
    for (from, to) in CLEANUP {
        if piece.contains(from) {
            piece = piece.replace(from, to);
        }
    }
    piece
}
