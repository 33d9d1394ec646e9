//! The tokenizer and the files it comes from.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::added::{Added, AddedToken};
use crate::charmap::CharMap;
use crate::decode::Decoder;
use crate::error::Error;
use crate::files::{read_bytes, read_optional, read_text};
use crate::json::{self, AddedMap, Config};
use crate::normalize::{Dialect, Normalized, Rules};
use crate::template::{Slot, Template};
use crate::truncate::Truncation;
use crate::vocab::{Place, Vocab, parse_lines};
use crate::wordpiece::WordPiece;
use crate::words::WordTable;

/// A BERT tokenizer: text to ids and back.
///
/// It does not change once it is made, and can be shared between threads.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(crate) map: CharMap,
    pub(crate) added: Added,
    pub(crate) words: WordTable,
    pub(crate) wordpiece: WordPiece,
    pub(crate) vocab: Vocab,
    /// The id of words that the vocabulary cannot spell.
    pub(crate) unknown: u32,
    pub(crate) single: Template,
    pub(crate) pair: Template,
    pub(crate) decoder: Decoder,
    truncation: Option<Truncation>,
    specials: Specials,
    warnings: Vec<String>,
}

/// The ids of the special tokens that the vocabulary has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Specials {
    cls: Option<u32>,
    sep: Option<u32>,
    pad: Option<u32>,
    mask: Option<u32>,
}

/// What a `vocab.txt` does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabOptions {
    /// Whose reading of the rules.
    pub dialect: Dialect,
    /// Whether the model is an uncased one.
    pub lowercase: bool,
    /// Whether accents are stripped; `None`: if `lowercase`.
    pub strip_accents: Option<bool>,
    /// Whether ideographs are words of their own.
    pub split_cjk: bool,
    /// Words of more characters are unknown; `None`: as the dialect has it.
    pub max_chars_per_word: Option<usize>,
    /// What marks a piece inside a word.
    pub continuing_prefix: String,
    /// The token for words that cannot be spelled. It has to be there.
    pub unk_token: String,
    /// The token before the text. It has to be there.
    pub cls_token: String,
    /// The token after each sequence. It has to be there.
    pub sep_token: String,
    /// The token that fills batches up.
    pub pad_token: String,
    /// The token for a word to guess.
    pub mask_token: String,
    /// Tokens looked for in the text besides the special ones. Those that the
    /// vocabulary does not have get the ids after its last.
    pub added_tokens: Vec<AddedToken>,
    /// Whether [`Tokenizer::decode`] removes spaces before punctuation.
    pub cleanup: bool,
}

impl Default for VocabOptions {
    /// An uncased model, read as the `tokenizers` crate does.
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            lowercase: true,
            strip_accents: None,
            split_cjk: true,
            max_chars_per_word: None,
            continuing_prefix: "##".into(),
            unk_token: "[UNK]".into(),
            cls_token: "[CLS]".into(),
            sep_token: "[SEP]".into(),
            pad_token: "[PAD]".into(),
            mask_token: "[MASK]".into(),
            added_tokens: Vec::new(),
            cleanup: true,
        }
    }
}

impl VocabOptions {
    /// Takes over what the files beside a vocabulary say.
    fn apply(&mut self, config: &Config) {
        let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        set(&mut self.lowercase, config.do_lower_case);
        set(&mut self.split_cjk, config.tokenize_chinese_chars);
        set(&mut self.cleanup, config.clean_up_tokenization_spaces);
        self.strip_accents = config.strip_accents.or(self.strip_accents);
        for (field, value) in [
            (&mut self.unk_token, &config.unk_token),
            (&mut self.cls_token, &config.cls_token),
            (&mut self.sep_token, &config.sep_token),
            (&mut self.pad_token, &config.pad_token),
            (&mut self.mask_token, &config.mask_token),
        ] {
            if let Some(value) = value {
                *field = value.content().to_owned();
            }
        }
    }
}

impl Tokenizer {
    /// Reads a model's folder: `tokenizer.json` if it is there, else
    /// `vocab.txt`, with `tokenizer_config.json`, `special_tokens_map.json`
    /// and `added_tokens.json` if they are.
    ///
    /// A `tokenizer.json` overrules the others; where they disagree with it,
    /// [`warnings`](Self::warnings) says so.
    ///
    /// # Errors
    ///
    /// See [`Error`]: neither file, or something wrong in one.
    pub fn from_pretrained(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let mut configs: Vec<Config> = Vec::new();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            if let Some((file, text)) = read_optional(&dir.join(name))? {
                configs.push(json::read(&file, &text)?);
            }
        }
        let mut options = VocabOptions::default();
        configs.iter().for_each(|config| options.apply(config));

        if let Some((file, text)) = read_optional(&dir.join("tokenizer.json"))? {
            let mut this = Self::from_json(&file, &text, &options)?;
            let rules = *this.map.rules();
            for (name, theirs, ours) in configs.iter().flat_map(|config| {
                [
                    ("do_lower_case", config.do_lower_case, rules.lowercase),
                    ("tokenize_chinese_chars", config.tokenize_chinese_chars, rules.split_cjk),
                    ("strip_accents", config.strip_accents, rules.strip_accents),
                ]
            }) {
                if let Some(theirs) = theirs.filter(|&theirs| theirs != ours) {
                    this.warnings.push(format!(
                        "tokenizer_config.json says {name} = {theirs}, tokenizer.json {ours}: \
                         the latter is used"
                    ));
                }
            }
            return Ok(this);
        }

        let path = dir.join("vocab.txt");
        if !path.exists() {
            return Err(Error::NoTokenizer { dir: dir.into() });
        }
        let added: Option<AddedMap> = match read_optional(&dir.join("added_tokens.json"))? {
            Some((file, text)) => Some(json::read(&file, &text)?),
            None => None,
        };
        let mut added: Vec<(String, u32)> = added.unwrap_or_default().into_iter().collect();
        added.sort_by_key(|&(_, id)| id);
        let plain = |content| AddedToken { special: false, ..AddedToken::special(content) };
        options.added_tokens.extend(added.iter().map(|(content, _)| plain(content.clone())));
        let mut this = Self::from_vocab_file(&path, options)?;
        for (content, id) in added {
            if let Some(ours) = this.token_to_id(&content).filter(|&ours| ours != id) {
                this.warnings.push(format!(
                    "added_tokens.json gives {content:?} the id {id}, vocab.txt {ours}: \
                     the latter is used"
                ));
            }
        }
        if configs.iter().any(|c| c.never_split.as_ref().is_some_and(|list| !list.is_empty())) {
            this.warnings.push("tokenizer_config.json: never_split is not supported".into());
        }
        Ok(this)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// See [`Error`]: not readable, not JSON, a component that is not BERT's,
    /// or contradictions.
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (file, text) = read_text(path.as_ref())?;
        Self::from_json(&file, &text, &VocabOptions::default())
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// As [`from_json_file`](Self::from_json_file).
    pub fn from_json_str(text: &str) -> Result<Self, Error> {
        Self::from_json("<string>", text, &VocabOptions::default())
    }

    /// Reads a `vocab.txt`: a token a line, the first has the id 0.
    ///
    /// # Errors
    ///
    /// See [`Error`]: not readable, not UTF-8, tokens doubled or missing.
    pub fn from_vocab_file(path: impl AsRef<Path>, options: VocabOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = read_bytes(path)?;
        let file = path.display().to_string();
        let tokens = parse_lines(&file, &bytes, options.dialect)?;
        Self::from_tokens(&file, Vocab::new(&file, Place::Line, tokens)?, options)
    }

    /// Takes the tokens in the order of their ids.
    ///
    /// # Errors
    ///
    /// Tokens doubled or missing.
    pub fn from_vocab<T: Into<String>>(
        tokens: impl IntoIterator<Item = T>,
        options: VocabOptions,
    ) -> Result<Self, Error> {
        let tokens = tokens.into_iter().map(Into::into).zip(0..).collect();
        let file = "<vocabulary>";
        Self::from_tokens(file, Vocab::new(file, Place::Id, tokens)?, options)
    }

    fn from_tokens(file: &str, vocab: Vocab, options: VocabOptions) -> Result<Self, Error> {
        let dialect = options.dialect;
        let rules = Rules {
            dialect,
            clean_text: true,
            split_cjk: options.split_cjk,
            strip_accents: options.strip_accents.unwrap_or(options.lowercase),
            lowercase: options.lowercase,
        };
        let max_chars = options.max_chars_per_word.unwrap_or(match dialect {
            Dialect::Google => 200,
            Dialect::HfSlow | Dialect::HfFast => 100,
        });
        let wordpiece = WordPiece::new(&vocab, &options.continuing_prefix, max_chars);
        let needed = |role, token: &str| find(file, &wordpiece, role, token);
        let unknown = needed("unknown", &options.unk_token)?;
        let specials = Some((
            needed("classification", &options.cls_token)?,
            needed("separator", &options.sep_token)?,
        ));
        let mut added: Vec<(AddedToken, u32)> = Vec::new();
        let mut known: HashSet<&str> = HashSet::new();
        for token in [
            &options.unk_token,
            &options.cls_token,
            &options.sep_token,
            &options.pad_token,
            &options.mask_token,
        ] {
            if let Some(id) = wordpiece.id(token)
                && known.insert(token)
            {
                added.push((AddedToken::special(token), id));
            }
        }
        let mut next = vocab.max_id().map_or(0, |id| u64::from(id) + 1);
        for token in options.added_tokens.iter().filter(|token| !token.content.is_empty()) {
            if !known.insert(&token.content) {
                continue;
            }
            let id = match wordpiece.id(&token.content) {
                Some(id) => id,
                None => {
                    next += 1;
                    u32::try_from(next - 1).map_err(|_| Error::Inconsistent {
                        file: file.into(),
                        part: "added tokens",
                        reason: "no id is left for them".into(),
                    })?
                }
            };
            added.push((token.clone(), id));
        }
        let map = CharMap::new(rules);
        let added = match dialect {
            Dialect::Google => Added::not_found(added),
            Dialect::HfSlow | Dialect::HfFast => Added::new(added, |text| normalized(&map, text)),
        };
        let prefix = options.continuing_prefix.clone();
        Ok(Self {
            map,
            words: WordTable::new(&vocab, max_chars),
            unknown,
            single: Template::bert(specials, false),
            pair: Template::bert(specials, true),
            decoder: Decoder::WordPiece { prefix, cleanup: options.cleanup },
            truncation: None,
            specials: Specials::new(&options, |token| added.id(token)),
            warnings: Vec::new(),
            added,
            wordpiece,
            vocab,
        })
    }

    fn from_json(file: &str, text: &str, names: &VocabOptions) -> Result<Self, Error> {
        let parsed = json::parse(file, text)?;
        let model = parsed.model;
        let vocab = Vocab::new(file, Place::Id, model.vocab.0)?;
        let prefix = &model.continuing_subword_prefix;
        let wordpiece = WordPiece::new(&vocab, prefix, model.max_input_chars_per_word);
        let unknown = find(file, &wordpiece, "unknown", &model.unk_token)?;

        let mut warnings = Vec::new();
        let mut added: Vec<(AddedToken, u32)> = Vec::new();
        let mut contents: HashMap<u32, &str> = HashMap::new();
        let mut ids: HashMap<&str, u32> = HashMap::new();
        for entry in parsed.added.iter().filter(|entry| !entry.content.is_empty()) {
            let id = wordpiece.id(&entry.content).unwrap_or(entry.id);
            if id != entry.id {
                warnings.push(format!(
                    "{file}: added_tokens gives {:?} the id {}, the vocabulary {id}: \
                     the latter is used",
                    entry.content, entry.id
                ));
            }
            let holder = vocab.token(id).filter(|&token| token != entry.content);
            if let Some(first) = holder.or(contents.get(&id).copied()) {
                if first == entry.content {
                    let token = entry.content.clone();
                    let (first, second) = (id as usize, entry.id as usize);
                    let (file, place) = (file.into(), "id");
                    return Err(Error::DoubledToken { file, token, place, first, second });
                }
                let (first, second) = (first.to_owned(), entry.content.clone());
                return Err(Error::DoubledId { file: file.into(), id, first, second });
            }
            if let Some(known) = ids.insert(&entry.content, id) {
                let token = entry.content.clone();
                let (first, second) = (known as usize, id as usize);
                let (file, place) = (file.into(), "id");
                return Err(Error::DoubledToken { file, token, place, first, second });
            }
            contents.insert(id, &entry.content);
            added.push((entry.token(), id));
        }
        let map = CharMap::new(parsed.rules);
        let added = Added::new(added, |text| normalized(&map, text));

        for slot in parsed.single.slots.iter().chain(&parsed.pair.slots) {
            if let Slot::Special { ids, .. } = slot
                && let Some(id) =
                    ids.iter().find(|&&id| added.token(id).is_none() && vocab.token(id).is_none())
            {
                let reason = format!("no token has the id {id}");
                return Err(Error::Inconsistent {
                    file: file.into(),
                    part: "post_processor",
                    reason,
                });
            }
        }
        let id = |token: &str| added.id(token).or_else(|| wordpiece.id(token));
        Ok(Self {
            map,
            words: WordTable::new(&vocab, model.max_input_chars_per_word),
            unknown,
            single: parsed.single,
            pair: parsed.pair,
            decoder: parsed.decoder,
            truncation: parsed.truncation,
            specials: Specials::new(names, id),
            warnings,
            added,
            wordpiece,
            vocab,
        })
    }

    /// How it normalises.
    pub fn rules(&self) -> Rules {
        *self.map.rules()
    }

    /// The dialect it reads text in.
    pub fn dialect(&self) -> Dialect {
        self.map.rules().dialect
    }

    /// The truncation that a `tokenizer.json` asks for. It is not applied
    /// unless it is put into [`EncodeOptions`](crate::EncodeOptions): many
    /// published files carry one that their own model overrides.
    pub fn file_truncation(&self) -> Option<Truncation> {
        self.truncation
    }

    /// Where the files contradicted each other, and which one was followed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many rows an embedding table needs for all ids: the largest id
    /// plus one. Where ids have no holes, the number of tokens.
    pub fn vocab_size(&self) -> usize {
        let added = self.added.iter().map(|(_, id)| id).max();
        self.vocab.max_id().max(added).map_or(0, |id| id as usize + 1)
    }

    /// The id of a token, as it is in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.added.id(token).or_else(|| self.wordpiece.id(token))
    }

    /// The token with an id.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        match self.added.token(id) {
            Some(token) => Some(&token.content),
            None => self.vocab.token(id),
        }
    }

    /// The id of `[CLS]`, the token before the text.
    pub fn cls_id(&self) -> Option<u32> {
        self.specials.cls
    }

    /// The id of `[SEP]`, the token after each sequence.
    pub fn sep_id(&self) -> Option<u32> {
        self.specials.sep
    }

    /// The id of `[MASK]`, the token for a word to guess.
    pub fn mask_id(&self) -> Option<u32> {
        self.specials.mask
    }

    /// The id of `[PAD]`, the token that fills batches up.
    pub fn pad_id(&self) -> Option<u32> {
        self.specials.pad
    }

    /// The id of `[UNK]`, which stands for words that cannot be spelled.
    pub fn unk_id(&self) -> Option<u32> {
        Some(self.unknown)
    }
}

impl Specials {
    fn new(names: &VocabOptions, id: impl Fn(&str) -> Option<u32>) -> Self {
        Self {
            cls: id(&names.cls_token),
            sep: id(&names.sep_token),
            pad: id(&names.pad_token),
            mask: id(&names.mask_token),
        }
    }
}

fn normalized(map: &CharMap, text: &str) -> String {
    let mut out = Normalized::default();
    map.normalize(text, 0..text.len(), &mut out);
    out.text
}

fn find(file: &str, wordpiece: &WordPiece, role: &'static str, token: &str) -> Result<u32, Error> {
    wordpiece.id(token).ok_or_else(|| Error::MissingToken {
        file: file.into(),
        role,
        token: token.into(),
    })
}
