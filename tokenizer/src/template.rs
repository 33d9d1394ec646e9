//! Where special tokens go: what is put round one sequence, or a pair.

/// Something in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Special tokens.
    Special { ids: Vec<u32>, type_id: u8 },
    /// The first (0) or second (1) sequence.
    Sequence { which: u8, type_id: u8 },
}

/// What an input looks like when it is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) slots: Vec<Slot>,
}

impl Template {
    /// `[CLS] A [SEP]`, and `B [SEP]` of type 1 after it in a pair; without
    /// special tokens where there are none.
    pub(crate) fn bert(specials: Option<(u32, u32)>, pair: bool) -> Self {
        let special =
            |id, type_id| specials.map(|_| Slot::Special { ids: vec![id], type_id }).into_iter();
        let (cls, sep) = specials.unwrap_or_default();
        let mut slots: Vec<Slot> = special(cls, 0).collect();
        slots.push(Slot::Sequence { which: 0, type_id: 0 });
        slots.extend(special(sep, 0));
        if pair {
            slots.push(Slot::Sequence { which: 1, type_id: 1 });
            slots.extend(special(sep, 1));
        }
        Self { slots }
    }

    /// How many special tokens it adds.
    pub(crate) fn specials(&self) -> usize {
        let count = |slot: &Slot| match slot {
            Slot::Special { ids, .. } => ids.len(),
            Slot::Sequence { .. } => 0,
        };
        self.slots.iter().map(count).sum()
    }

    /// Whether the second sequence comes before the first.
    pub(crate) fn second_leads(&self) -> bool {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Sequence { which, .. } => Some(*which == 1),
            Slot::Special { .. } => None,
        }) == Some(true)
    }
}
