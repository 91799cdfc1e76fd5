//! What the locks of this process were called, so that a key is shown by its name.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// How many bytes of names are kept, the latest ones; each counts as so many more.
const MOST: usize = 8 << 20;
const BESIDE: usize = 128;

/// The number or pair of numbers that a key is.
pub(crate) type Numbers = (i64, Option<i32>);

#[derive(Default)]
struct Names {
    by_key: HashMap<Numbers, Arc<str>>,
    in_order: VecDeque<Numbers>,
    bytes: usize,
}

static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

impl Names {
    fn remember(&mut self, key: Numbers, name: &str) {
        self.bytes += name.len() + BESIDE;
        match self.by_key.insert(key, name.into()) {
            Some(before) => self.bytes -= before.len() + BESIDE,
            None => self.in_order.push_back(key),
        }
        while self.bytes > MOST {
            let oldest = self.in_order.pop_front();
            let Some(name) = oldest.and_then(|oldest| self.by_key.remove(&oldest)) else {
                break;
            };
            self.bytes -= name.len() + BESIDE;
        }
    }
}

/// Keeps the name of a key.
pub(crate) fn remember(key: Numbers, name: &str) {
    if of(key).is_none_or(|known| *known != *name) {
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
        let name = "name".repeat(1_000);
        for key in 0..5_000 {
            names.remember((key, None), &name);
            names.remember((key, None), "other name");
            names.remember((key, Some(1)), &name);
        }
        assert!(names.bytes <= MOST);
        assert_eq!(names.by_key.len(), names.in_order.len());
        let kept = names.by_key.values().map(|name| name.len() + BESIDE).sum();
        assert_eq!(names.bytes, kept);
        assert_eq!(&*names.by_key[&(4_999, None)], "other name");
        assert!(!names.by_key.contains_key(&(0, None)));
        names.remember((0, None), &"long".repeat(MOST));
        assert_eq!((names.bytes, names.by_key.len()), (0, 0));
        names.remember((0, None), &"x".repeat(MOST - BESIDE));
        assert_eq!((names.bytes, names.by_key.len()), (MOST, 1));
    }
}
