use std::collections::VecDeque;

/// How one schedule goes: what is given of it, what is chosen on the way, and what was chosen.
#[derive(Debug)]
pub(super) struct Schedule {
    given: usize,
    left: VecDeque<usize>,
    random: Option<u64>,
    /// Whether something could not be done in the order that was given.
    strayed: bool,
    choices: Vec<Choice>,
}

/// A point at which one of several sessions could go on.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Which.
    enabled: Vec<usize>,
    /// The one that went on before.
    last: Option<usize>,
    pub(super) chosen: usize,
}

impl Schedule {
    /// Begins with these sessions, and then goes on with as few preemptions as can be.
    pub(super) fn from_start(sessions: Vec<usize>) -> Self {
        Self {
            given: sessions.len(),
            left: sessions.into(),
            random: None,
            strayed: false,
            choices: Vec::new(),
        }
    }

    /// Goes where chance leads it, which is the same way for the same seed.
    pub(super) fn random(seed: u64) -> Self {
        Self {
            random: Some(seed),
            ..Self::from_start(Vec::new())
        }
    }

    /// Chooses one of the sessions that can go on, of which there is at least one.
    ///
    /// A session that is to come next and can't go on waits its turn.
    pub(super) fn choose(&mut self, enabled: &[usize]) -> usize {
        let last = self.choices.last().map(|choice| choice.chosen);
        let given = self.left.iter().position(|next| enabled.contains(next));
        self.strayed |= !self.left.is_empty() && given != Some(0);
        let given = given.and_then(|at| self.left.remove(at));
        let chosen = given.unwrap_or_else(|| match (&mut self.random, last) {
            (Some(random), _) => enabled[below(random, enabled.len())],
            (None, Some(last)) if enabled.contains(&last) => last,
            (None, _) => enabled[0],
        });
        self.choices.push(Choice {
            enabled: enabled.to_vec(),
            last,
            chosen,
        });
        chosen
    }

    /// How many sessions were given at the start.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    pub(super) fn has_strayed(&self) -> bool {
        self.strayed
    }

    pub(super) fn choices(&self) -> &[Choice] {
        &self.choices
    }
}

impl Choice {
    /// The sessions that could have gone on instead.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> {
        let other = |session: &usize| *session != self.chosen;
        self.enabled.iter().copied().filter(other)
    }

    /// Whether going on with `session` interrupts another one that could have gone on.
    pub(super) fn preempts(&self, session: usize) -> bool {
        self.last
            .is_some_and(|last| last != session && self.enabled.contains(&last))
    }

    /// What these choices came to, and then `session`.
    pub(super) fn sessions(choices: &[Self], session: usize) -> Vec<usize> {
        let chosen = choices.iter().map(|choice| choice.chosen);
        chosen.chain([session]).collect()
    }
}

/// A number below `bound`, by SplitMix64, which is good enough for a choice among a few.
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    ((u128::from(z) * bound as u128) >> 64) as usize
}
