use std::cell::Cell;

/// Numbers that depend on a seed and on nothing else (SplitMix64).
pub(crate) struct Chance(Cell<u64>);

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// Each `player` of a `seed` has a sequence of its own.
    pub(crate) fn new(seed: u64, player: &str) -> Self {
        let chance = Self::of(seed);
        for byte in player.bytes() {
            chance.0.set(chance.number() ^ u64::from(byte));
        }
        chance
    }

    pub(crate) fn number(&self) -> u64 {
        let mut number = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(number);
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    /// The place of one of so many.
    pub(crate) fn index(&self, length: usize) -> usize {
        (self.number() % length as u64) as usize
    }

    pub(crate) fn below(&self, limit: u32) -> u32 {
        (self.number() % u64::from(limit)) as u32
    }

    pub(crate) fn one_in(&self, limit: u32) -> bool {
        self.below(limit) == 0
    }

    /// One of `choices`, each as often as its weight says.
    pub(crate) fn choose<T: Copy>(&self, choices: &[(u32, T)]) -> T {
        let mut rest = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for &(weight, choice) in choices {
            match rest.checked_sub(weight) {
                Some(less) => rest = less,
                None => return choice,
            }
        }
        unreachable!("the weights have been added up")
    }
}
