use proptest::prelude::*;

use super::*;
use crate::hostile::{cases, text};

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_text_is_a_time_or_refused(text in text()) {
        let _ = parse(&text);
    }

    #[test]
    fn a_time_is_its_number_in_its_unit(number in 0..1_000_000_u32, space in "[ ]?") {
        for (unit, milliseconds) in
            [("ms", 1), ("s", 1_000), ("", 1_000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        {
            let time = Duration::from_millis(u64::from(number) * milliseconds);
            prop_assert_eq!(parse(&format!("{number}{space}{unit}")), Ok(time));
            prop_assert_eq!(parse(&format!("{number}.0{space}{unit}")), Ok(time));
            let wrong = [format!("-{number}1{unit}"), format!("{number}{unit}x")];
            prop_assert!(wrong.iter().all(|text| parse(text).is_err()), "{wrong:?}");
        }
    }
}
