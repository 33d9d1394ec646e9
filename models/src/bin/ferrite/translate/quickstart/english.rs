//! Numbers, dates and times of day in English words, as they are read out in Britain.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A number below a million: "forty-two thousand and seven".
pub(super) fn cardinal(n: u32) -> String {
    let (one, ten) = (|n: u32| ONES[n as usize], |n: u32| TENS[n as usize]);
    match n {
        0..20 => one(n).to_owned(),
        20..100 if n.is_multiple_of(10) => ten(n / 10).to_owned(),
        20..100 => format!("{}-{}", ten(n / 10), one(n % 10)),
        100..1000 => match n % 100 {
            0 => format!("{} hundred", one(n / 100)),
            rest => format!("{} hundred and {}", one(n / 100), cardinal(rest)),
        },
        _ => match n % 1000 {
            0 => format!("{} thousand", cardinal(n / 1000)),
            rest @ 1..100 => format!("{} thousand and {}", cardinal(n / 1000), cardinal(rest)),
            rest => format!("{} thousand {}", cardinal(n / 1000), cardinal(rest)),
        },
    }
}

/// The ordinal of 1 to 99: "twenty-third".
pub(super) fn ordinal(n: u32) -> String {
    let cardinal = cardinal(n);
    let (before, last) = match cardinal.rsplit_once('-') {
        Some((tens, last)) => (format!("{tens}-"), last),
        None => (String::new(), &*cardinal),
    };
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        _ => match last.strip_suffix('y') {
            Some(tens) => format!("{tens}ieth"),
            None => format!("{last}th"),
        },
    };
    before + &last
}

/// A year of 1100 to 2099: "nineteen eighty-four", "nineteen hundred and five", "two thousand and
/// one", "twenty twenty-six".
pub(super) fn year(n: u32) -> String {
    match (n / 100, n % 100) {
        (20, 0..10) => cardinal(n),
        (century, 0) => format!("{} hundred", cardinal(century)),
        (century, rest @ 1..10) => format!("{} hundred and {}", cardinal(century), cardinal(rest)),
        (century, rest) => format!("{} {}", cardinal(century), cardinal(rest)),
    }
}

/// A day of a month, 1 to 12: "the third of March".
pub(super) fn day(day: u32, month: usize) -> String {
    format!("the {} of {}", ordinal(day), MONTHS[month - 1])
}

/// A time of day, 1 to 12 o'clock and every five minutes: "twenty-five to four".
pub(super) fn time(hour: u32, minute: u32) -> String {
    let minutes = |n: u32| if n == 15 { "a quarter".to_owned() } else { cardinal(n) };
    match minute {
        0 => format!("{} o'clock", cardinal(hour)),
        30 => format!("half past {}", cardinal(hour)),
        1..30 => format!("{} past {}", minutes(minute), cardinal(hour)),
        _ => format!("{} to {}", minutes(60 - minute), cardinal(hour % 12 + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_out() {
        for (n, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (40, "forty"),
            (42, "forty-two"),
            (100, "one hundred"),
            (115, "one hundred and fifteen"),
            (1000, "one thousand"),
            (1001, "one thousand and one"),
            (2100, "two thousand one hundred"),
            (30_030, "thirty thousand and thirty"),
            (421_305, "four hundred and twenty-one thousand three hundred and five"),
            (999_999, "nine hundred and ninety-nine thousand nine hundred and ninety-nine"),
        ] {
            assert_eq!(cardinal(n), words);
        }
    }

    #[test]
    fn ordinals_years_and_times_are_read_out() {
        let ordinals = [1, 2, 3, 4, 5, 8, 9, 12, 20, 21, 30, 31].map(ordinal);
        assert_eq!(
            ordinals.join(" "),
            "first second third fourth fifth eighth ninth twelfth twentieth twenty-first thirtieth \
             thirty-first"
        );
        let years = [1100, 1492, 1905, 1984, 2000, 2001, 2010, 2026].map(year);
        assert_eq!(
            years.join(", "),
            "eleven hundred, fourteen ninety-two, nineteen hundred and five, nineteen eighty-four, \
             two thousand, two thousand and one, twenty ten, twenty twenty-six"
        );
        assert_eq!(day(23, 3), "the twenty-third of March");
        let times = [(3, 0), (3, 5), (3, 15), (3, 25), (3, 30), (3, 35), (3, 45), (12, 50)];
        assert_eq!(
            times.map(|(hour, minute)| time(hour, minute)).join(", "),
            "three o'clock, five past three, a quarter past three, twenty-five past three, half past \
             three, twenty-five to four, a quarter to four, ten to one"
        );
    }
}
