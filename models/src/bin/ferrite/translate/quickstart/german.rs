//! Numbers, dates and times of day in German words.
//!
//! A number is one word, its ones before its tens, so that a translator has to look back and forth:
//! "forty-two thousand and seven" is "zweiundvierzigtausendsieben".

const ONES: [&str; 20] = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
];
const TENS: [&str; 10] = [
    "", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig",
];
const MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];

/// A number below a million by itself: "einhunderteins".
pub(super) fn cardinal(n: u32) -> String {
    match n {
        0..20 => ONES[n as usize].to_owned(),
        20..100 if n.is_multiple_of(10) => TENS[n as usize / 10].to_owned(),
        20..100 => format!("{}und{}", stem(n % 10), TENS[n as usize / 10]),
        100..1000 => format!("{}hundert{}", stem(n / 100), rest(n % 100)),
        _ => format!("{}tausend{}", stem(n / 1000), rest(n % 1000)),
    }
}

/// What follows in the same word: nothing for 0.
fn rest(n: u32) -> String {
    if n == 0 { String::new() } else { cardinal(n) }
}

/// A number before another part of its word, where "eins" is "ein".
fn stem(n: u32) -> String {
    let cardinal = cardinal(n);
    match cardinal.strip_suffix("eins") {
        Some(before) => format!("{before}ein"),
        None => cardinal,
    }
}

/// The ordinal of 1 to 99 in the dative, "dritten", as it stands behind "am" and "dem".
pub(super) fn ordinal(n: u32) -> String {
    match n {
        1 => "ersten".to_owned(),
        3 => "dritten".to_owned(),
        7 => "siebten".to_owned(),
        8 => "achten".to_owned(),
        0..20 => format!("{}ten", cardinal(n)),
        _ => format!("{}sten", cardinal(n)),
    }
}

/// A year of 1100 to 2099: "neunzehnhundertvierundachtzig", "zweitausendsechsundzwanzig".
pub(super) fn year(n: u32) -> String {
    match n {
        0..2000 => format!("{}hundert{}", cardinal(n / 100), rest(n % 100)),
        _ => cardinal(n),
    }
}

/// A day of a month, 1 to 12, in the dative: "dritten März".
pub(super) fn day(day: u32, month: usize) -> String {
    format!("{} {}", ordinal(day), MONTHS[month - 1])
}

/// A time of day, 1 to 12 o'clock and every five minutes: "fünf nach halb vier".
pub(super) fn time(hour: u32, minute: u32) -> String {
    let (this, next) = (cardinal(hour), cardinal(hour % 12 + 1));
    let minutes = |n: u32| if n == 15 { "Viertel".to_owned() } else { cardinal(n) };
    match minute {
        0 => format!("{} Uhr", stem(hour)),
        25 => format!("fünf vor halb {next}"),
        30 => format!("halb {next}"),
        35 => format!("fünf nach halb {next}"),
        1..25 => format!("{} nach {this}", minutes(minute)),
        _ => format!("{} vor {next}", minutes(60 - minute)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_word() {
        for (n, word) in [
            (0, "null"),
            (1, "eins"),
            (16, "sechzehn"),
            (17, "siebzehn"),
            (21, "einundzwanzig"),
            (30, "dreißig"),
            (100, "einhundert"),
            (101, "einhunderteins"),
            (1000, "eintausend"),
            (1001, "eintausendeins"),
            (21_000, "einundzwanzigtausend"),
            (101_000, "einhunderteintausend"),
            (421_305, "vierhunderteinundzwanzigtausenddreihundertfünf"),
            (999_999, "neunhundertneunundneunzigtausendneunhundertneunundneunzig"),
        ] {
            assert_eq!(cardinal(n), word);
        }
    }

    #[test]
    fn ordinals_years_and_times_are_read_out() {
        let ordinals = [1, 2, 3, 7, 8, 12, 19, 20, 21, 31].map(ordinal);
        assert_eq!(
            ordinals.join(" "),
            "ersten zweiten dritten siebten achten zwölften neunzehnten zwanzigsten \
             einundzwanzigsten einunddreißigsten"
        );
        let years = [1100, 1492, 1905, 2000, 2001, 2026].map(year);
        assert_eq!(
            years.join(", "),
            "elfhundert, vierzehnhundertzweiundneunzig, neunzehnhundertfünf, zweitausend, \
             zweitausendeins, zweitausendsechsundzwanzig"
        );
        assert_eq!(day(23, 3), "dreiundzwanzigsten März");
        let times =
            [(1, 0), (3, 5), (3, 15), (3, 25), (3, 30), (3, 35), (3, 45), (12, 50), (1, 10)];
        assert_eq!(
            times.map(|(hour, minute)| time(hour, minute)).join(", "),
            "ein Uhr, fünf nach drei, Viertel nach drei, fünf vor halb vier, halb vier, fünf nach \
             halb vier, Viertel vor vier, zehn vor eins, zehn nach eins"
        );
    }
}
