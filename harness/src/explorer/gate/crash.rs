/// What a session's thread panics with to end.
pub(super) struct Crash;

/// Whether a panic is the end of a session that was to end.
pub(in crate::explorer) fn is_crash(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Crash>()
}
