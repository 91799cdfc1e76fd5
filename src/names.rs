//! What the locks of this process were called, so that a key is shown by its name.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// How many names are kept, the latest ones.
const MOST: usize = 4_096;

/// The bytes of the longest name that is kept.
const LONGEST: usize = 512;

/// The number or pair of numbers that a key is.
pub(crate) type Numbers = (i64, Option<i32>);

#[derive(Default)]
struct Names {
    by_key: HashMap<Numbers, Arc<str>>,
    in_order: VecDeque<Numbers>,
}

static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

impl Names {
    fn remember(&mut self, key: Numbers, name: &str) {
        if self.by_key.insert(key, name.into()).is_none() {
            self.in_order.push_back(key);
        }
        if self.in_order.len() > MOST
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }
}

/// Keeps the name of a key.
pub(crate) fn remember(key: Numbers, name: &str) {
    if name.len() <= LONGEST && of(key).is_none_or(|known| *known != *name) {
        // Nothing panics that has it.
        let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
        names.remember(key, name);
    }
}

/// The name of a key, if it has one that is known.
pub(crate) fn of(key: Numbers) -> Option<Arc<str>> {
    let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
    names.by_key.get(&key).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_for_names_is_bounded_and_the_latest_are_kept() {
        let mut names = Names::default();
        for key in 0..3 * MOST as i64 {
            names.remember((key, None), "name");
            names.remember((key, None), "other name");
        }
        assert_eq!(names.by_key.len(), MOST);
        assert_eq!(names.in_order.len(), MOST);
        let latest = (3 * MOST as i64 - 1, None);
        assert_eq!(&*names.by_key[&latest], "other name");
    }
}
