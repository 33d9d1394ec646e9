//! Words as `mteval-v13a.pl` of the WMT finds them, which is how BLEU is reported.
//!
//! Four replacements, one over the other's result, each from left to right and never looking again
//! at what it has taken. So of "..." the stops are not all parted by one replacement, and the order
//! matters; it is that of sacreBLEU's `tokenizer_13a.py` and `tokenizer_re.py`.

use super::split_whitespace;

/// Tokenizes a line: the words, with one space between them.
///
/// Marks become words of their own, but for stops and commas between digits and for hyphens that
/// are not behind a digit; `&quot;`, `&amp;`, `&lt;` and `&gt;` are what they stand for, a hyphen
/// at the end of an inner line joins it with the next, and `<skipped>` is left out. Digits are
/// those of ASCII: the rules were made for European languages.
///
/// Unlike [`Bleu`](super::Bleu), it leaves white space at the end of the line to these rules.
///
/// ```
/// use ferrite_models::metrics::tokenize_13a;
///
/// assert_eq!(tokenize_13a("It's 3.5%, isn't it?"), "It's 3.5 % , isn't it ?");
/// assert_eq!(tokenize_13a("well-known 1990-91 &quot;x&quot;."), "well-known 1990 - 91 \" x \" .");
/// ```
pub fn tokenize_13a(line: &str) -> String {
    let mut line = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // `&amp;lt;` becomes `<`, as in the original.
    for (entity, mark) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replace(entity, mark);
    }
    let mut text = vec![' '];
    for c in line.chars() {
        if is_mark(c) { text.extend([' ', c, ' ']) } else { text.push(c) }
    }
    text.push(' ');
    let text = part(&text, |a, b| !a.is_ascii_digit() && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let text = part(&text, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let text = part(&text, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    let text: String = text.into_iter().collect();
    split_whitespace(&text).collect::<Vec<_>>().join(" ")
}

/// Replaces pairs of characters. A character belongs to one pair at most: to the first.
fn part(
    text: &[char],
    matches: impl Fn(char, char) -> bool,
    parted: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut result = Vec::with_capacity(2 * text.len());
    let mut rest = text;
    loop {
        match *rest {
            [a, b, ..] if matches(a, b) => {
                result.extend(parted(a, b));
                rest = &rest[2..];
            }
            [a, ..] => {
                result.push(a);
                rest = &rest[1..];
            }
            [] => return result,
        }
    }
}

/// The marks of ASCII but `'`, `,`, `-` and `.`.
fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.')
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | ',')
}
