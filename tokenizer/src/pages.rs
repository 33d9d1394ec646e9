//! A table over the characters, in two stages.

/// Characters below this are in a table; nearly all above are ideographs of
/// which no two differ.
const END: u32 = 0x20000;

const PAGE: usize = 256;

/// Where every page is like the one before: ideographs, syllables, private
/// use. This saves half the time to make a table.
const UNIFORM: [(u32, u32); 5] =
    [(0x3400, 0x4D00), (0x4E00, 0x9F00), (0xAC00, 0xD700), (0xE000, 0xF900), (0x17000, 0x18700)];

/// Pages of 256 characters, equal pages stored once.
#[derive(Clone, Debug)]
pub(crate) struct Pages<T> {
    values: Vec<T>,
    page_of: Vec<u16>,
}

impl<T: Copy + PartialEq> Pages<T> {
    /// `of` gives the value of a character, and is asked once at most.
    pub(crate) fn new(filler: T, mut of: impl FnMut(char) -> T) -> Self {
        let mut values: Vec<T> = Vec::new();
        let mut page_of = Vec::with_capacity(END as usize / PAGE);
        let mut page = Vec::with_capacity(PAGE);
        for first in (0..END).step_by(PAGE) {
            let next = first + PAGE as u32;
            if UNIFORM.iter().any(|&(low, high)| low < first && next <= high) {
                page_of.extend(page_of.last().copied());
                continue;
            }
            page.clear();
            page.extend((first..next).map(|c| char::from_u32(c).map_or(filler, &mut of)));
            // Equal pages often follow one another.
            let known = values.chunks(PAGE).rposition(|known| known == page);
            page_of.push(known.unwrap_or(values.len() / PAGE) as u16);
            if known.is_none() {
                values.extend_from_slice(&page);
            }
        }
        Self { values, page_of }
    }

    /// The value of a character; `None` for those that are not in the table.
    #[inline]
    pub(crate) fn get(&self, c: char) -> Option<T> {
        let page = *self.page_of.get(c as usize / PAGE)?;
        Some(self.values[usize::from(page) * PAGE + c as usize % PAGE])
    }
}
