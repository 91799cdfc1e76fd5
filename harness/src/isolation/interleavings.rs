use std::ops::Range;

/// Every order of the steps in which those of each session keep theirs, one at a time: a few
/// sessions of a few steps have millions.
///
/// The first session that has steps left goes first, as with PostgreSQL's `isolationtester`.
/// Written as the sessions that take turns, these orders are sorted.
#[derive(Debug)]
pub(super) struct Interleavings {
    sessions: Vec<Range<usize>>,
    /// The session of each turn. `None` after the last order.
    turns: Option<Vec<usize>>,
}

impl Interleavings {
    pub(super) fn new(sessions: impl IntoIterator<Item = Range<usize>>) -> Self {
        let sessions: Vec<_> = sessions.into_iter().collect();
        let turns = sessions
            .iter()
            .enumerate()
            .flat_map(|(session, steps)| steps.clone().map(move |_| session))
            .collect();
        Self {
            sessions,
            turns: Some(turns),
        }
    }
}

impl Iterator for Interleavings {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let turns = self.turns.take()?;
        let mut left = self.sessions.clone();
        let steps = turns
            .iter()
            .filter_map(|session| left.get_mut(*session)?.next())
            .collect();
        self.turns = following(turns);
        Some(steps)
    }
}

/// The next sequence in sorted order with the same elements, unless this is the last.
fn following(mut turns: Vec<usize>) -> Option<Vec<usize>> {
    // What cannot grow is the longest end that never rises. What is before it grows as little as
    // it can, and all after it starts again with its smallest.
    let growing = turns.windows(2).rposition(|pair| pair[0] < pair[1])?;
    let greater = turns.iter().rposition(|turn| *turn > turns[growing])?;
    turns.swap(growing, greater);
    turns[growing + 1..].reverse();
    Some(turns)
}

#[cfg(test)]
mod tests {
    use super::Interleavings;

    #[test]
    fn the_first_session_with_steps_left_goes_first() {
        let orders: Vec<_> = Interleavings::new([0..2, 2..4]).collect();
        assert_eq!(
            orders,
            [
                [0, 1, 2, 3],
                [0, 2, 1, 3],
                [0, 2, 3, 1],
                [2, 0, 1, 3],
                [2, 0, 3, 1],
                [2, 3, 0, 1],
            ]
        );
    }

    #[test]
    fn a_session_alone_has_one_order() {
        assert!(Interleavings::new(std::iter::once(0..3)).eq([[0, 1, 2]]));
    }

    #[test]
    fn three_sessions_have_all_orders_and_none_twice() {
        let orders: Vec<_> = Interleavings::new([0..2, 2..3, 3..6]).collect();
        let mut different = orders.clone();
        different.sort_unstable();
        different.dedup();
        // 6! / (2! * 1! * 3!)
        assert_eq!((orders.len(), different.len()), (60, 60));
    }

    #[test]
    fn more_orders_than_memory_could_hold_start_at_once() {
        let sessions = (0..100).map(|session| session * 100..session * 100 + 100);
        assert_eq!(Interleavings::new(sessions).take(3).count(), 3);
    }
}
