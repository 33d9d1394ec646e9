//! How long texts are cut.

use std::ops::Range;

use crate::error::Error;
use crate::normalize::Dialect;

/// The most tokens that the overflowing windows of one input may hold.
const MAX_WINDOW_TOKENS: usize = 1 << 27;

/// Which sequence of a pair is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The longer one, as long as it is; both evenly then.
    #[default]
    LongestFirst,
    /// Only the first; an error if that cannot be enough.
    OnlyFirst,
    /// Only the second; an error if that cannot be enough, or there is none.
    OnlySecond,
}

/// From which end a sequence is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// The beginning stays.
    #[default]
    Right,
    /// The end stays.
    Left,
}

/// How to keep an input within a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The most tokens in the result, special ones included.
    pub max_length: usize,
    /// Which sequence of a pair is cut.
    pub strategy: Strategy,
    /// From which end.
    pub direction: Direction,
    /// How many tokens an overflowing window shares with the one before.
    pub stride: usize,
}

impl Truncation {
    /// To `max_length` tokens, from the right, without overlap.
    pub fn new(max_length: usize) -> Self {
        Self {
            max_length,
            strategy: Strategy::default(),
            direction: Direction::default(),
            stride: 0,
        }
    }

    /// How many tokens of each sequence fit into one window, given how many
    /// there are and how many special tokens come on top.
    ///
    /// Both lengths are returned unchanged if everything fits.
    pub(crate) fn room(
        &self,
        dialect: Dialect,
        specials: usize,
        first: usize,
        second: Option<usize>,
    ) -> Result<(usize, usize), Error> {
        let max_length = self.max_length;
        let room = max_length
            .checked_sub(specials)
            .ok_or(Error::MaxLengthTooSmall { max_length, specials })?;
        if self.stride > 0 && self.stride >= room {
            return Err(Error::StrideTooLarge { stride: self.stride, room });
        }
        let total = first + second.unwrap_or(0);
        let Some(excess) = total.checked_sub(room).filter(|&excess| excess > 0) else {
            return Ok((first, second.unwrap_or(0)));
        };
        if room == 0 {
            return Ok((0, 0));
        }
        let cut = |length: usize| {
            length.checked_sub(excess).filter(|&rest| rest > 0).ok_or(Error::CannotTruncate {
                strategy: self.strategy,
                excess,
                length,
            })
        };
        match (self.strategy, second) {
            (Strategy::LongestFirst, None) => Ok((room, 0)),
            (Strategy::LongestFirst, Some(second)) => Ok(share(dialect, room, first, second)),
            (Strategy::OnlyFirst, _) => Ok((cut(first)?, second.unwrap_or(0))),
            (Strategy::OnlySecond, second) => Ok((first, cut(second.unwrap_or(0))?)),
        }
    }

    /// The windows of a sequence of `len` tokens, `room` to a window: the one
    /// that stays, then the overflowing ones.
    pub(crate) fn windows(&self, len: usize, room: usize) -> Result<Windows, Error> {
        if len > room && self.stride >= room {
            return Err(Error::StrideTooLarge { stride: self.stride, room });
        }
        Ok(Windows { len, room, step: room.saturating_sub(self.stride), direction: self.direction })
    }

    /// The window that stays.
    pub(crate) fn kept(&self, len: usize, room: usize) -> Range<usize> {
        match self.direction {
            Direction::Right => 0..room.min(len),
            Direction::Left => len.saturating_sub(room)..len,
        }
    }
}

/// Shares `room` out between two sequences, of which the longer is cut first.
///
/// With an odd number of places for two long sequences, the loop of the
/// original drops the last token of the second; the closed form in
/// `tokenizers` gives the larger half to the longer, the second if equal.
fn share(dialect: Dialect, room: usize, first: usize, second: usize) -> (usize, usize) {
    let (small, large) = (room / 2, room - room / 2);
    if first.min(second) <= small {
        // Only the longer one is cut.
        return if first <= second { (first, room - first) } else { (room - second, second) };
    }
    match dialect {
        Dialect::HfFast if first <= second => (small, large),
        _ => (large, small),
    }
}

/// Windows over a sequence, each `step` tokens after the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    len: usize,
    room: usize,
    step: usize,
    direction: Direction,
}

impl Windows {
    /// How many there are, at least one.
    pub(crate) fn count(&self) -> usize {
        1 + self.len.saturating_sub(self.room).div_ceil(self.step.max(1))
    }

    /// The tokens of one of them.
    pub(crate) fn get(&self, index: usize) -> Range<usize> {
        let start = index * self.step;
        let end = (start + self.room).min(self.len);
        match self.direction {
            Direction::Right => start..end,
            Direction::Left => self.len - end..self.len - start,
        }
    }
}

/// Refuses more windows than [`MAX_WINDOW_TOKENS`] allows.
pub(crate) fn check_windows(windows: usize, room: usize) -> Result<(), Error> {
    match windows.checked_mul(room.max(1)) {
        Some(tokens) if tokens <= MAX_WINDOW_TOKENS => Ok(()),
        _ => Err(Error::TooManyWindows { windows, room }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// google-research/bert, `_truncate_seq_pair`.
    fn pop_the_longer(room: usize, mut first: usize, mut second: usize) -> (usize, usize) {
        while first + second > room {
            if first > second { first -= 1 } else { second -= 1 }
        }
        (first, second)
    }

    #[test]
    fn longest_first() {
        for room in 0..20 {
            for first in 0..20 {
                for second in 0..20 {
                    let truncation = Truncation::new(room + 3);
                    let get = |dialect| {
                        truncation.room(dialect, 3, first, Some(second)).expect("possible")
                    };
                    let expected = pop_the_longer(room, first, second);
                    assert_eq!(get(Dialect::Google), expected);
                    assert_eq!(get(Dialect::HfSlow), expected);
                    let (a, b) = get(Dialect::HfFast);
                    assert_eq!(a + b, expected.0 + expected.1);
                    assert!(a.abs_diff(expected.0) <= 1);
                }
            }
        }
        let room = |dialect| Truncation::new(7).room(dialect, 0, 9, Some(9)).expect("possible");
        assert_eq!(room(Dialect::Google), (4, 3));
        assert_eq!(room(Dialect::HfFast), (3, 4));
    }

    #[test]
    fn windows_cover_everything_once_but_for_the_stride() {
        for direction in [Direction::Right, Direction::Left] {
            for len in 0..40usize {
                for room in 1..12 {
                    for stride in 0..room {
                        let truncation = Truncation { direction, stride, ..Truncation::new(room) };
                        let windows = truncation.windows(len, room).expect("possible");
                        let ranges: Vec<_> = (0..windows.count()).map(|i| windows.get(i)).collect();
                        assert_eq!(ranges[0], truncation.kept(len, room));
                        let sum: usize = ranges.iter().map(Range::len).sum();
                        assert_eq!(sum, len + stride * (ranges.len() - 1));
                        assert!(ranges.iter().all(|range| range.len() <= room));
                    }
                }
            }
        }
    }
}
