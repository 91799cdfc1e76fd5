//! Ending who is in the way, and sparing whom that does not befit.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{End, LockError, SessionEnd, Spared};
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use super::jam::{Actor, blockers, connect_as, connect_to, end, server};
use crate::support::{backend_pid, eventually};

/// A server with roles that are no superusers: `app`, its `operator`, who may see and end all, and
/// `stranger`, who may nothing.
fn server_with_roles() -> TempPostgres {
    let server = server();
    let roles = "CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE operator LOGIN; \
        GRANT pg_signal_backend, pg_read_all_stats TO operator; \
        GRANT ALL ON ALL TABLES IN SCHEMA public TO app";
    connect_to(&server).batch_execute(roles).unwrap();
    server
}

fn outcomes(ends: &[SessionEnd]) -> Vec<(i32, Option<Spared>)> {
    let mut outcomes: Vec<_> = ends
        .iter()
        .map(|end| (end.session.pid, end.spared))
        .collect();
    outcomes.sort_unstable_by_key(|(pid, _)| *pid);
    outcomes
}

fn sorted<const N: usize>(mut outcomes: [(i32, Option<Spared>); N]) -> [(i32, Option<Spared>); N] {
    outcomes.sort_unstable_by_key(|(pid, _)| *pid);
    outcomes
}

#[test]
#[parallel]
fn an_idle_blocker_survives_a_cancellation_and_not_a_termination() {
    let server = server_with_roles();
    let operator = &mut connect_as(&server, "operator");
    let actors = [
        Actor::of(&server, "app", "holder"),
        Actor::of(&server, "app", "waiter"),
    ];
    let [holder, waiter] = &actors;
    holder.does("BEGIN; LOCK TABLE accounts");
    waiter.waits(operator, "SELECT FROM accounts");
    let cancelled = operator.cancel_blockers_of(waiter.pid).unwrap();
    assert_eq!(outcomes(&cancelled), [(holder.pid, None)]);
    assert_eq!(operator.blocked_by(waiter.pid).unwrap().len(), 1);

    let ended = operator.terminate_blockers_of(waiter.pid).unwrap();
    assert_eq!(outcomes(&ended), [(holder.pid, None)]);
    assert!(ended[0].is_ended());
    let line = ended[0].to_string();
    let expected = format!("terminated pid {} (holder, as app), for ", holder.pid);
    assert!(line.starts_with(&expected), "{line}");
    eventually(|| waiter.rests());
    assert_eq!(operator.terminate_blockers_of(waiter.pid).unwrap(), []);
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_statement_that_is_in_the_way_is_cancelled() {
    let server = server_with_roles();
    let operator = &mut connect_as(&server, "operator");
    let actors = [
        Actor::of(&server, "app", "holder"),
        Actor::of(&server, "app", "waiter"),
    ];
    let [holder, waiter] = &actors;
    holder.begins("SELECT pg_advisory_xact_lock(1), pg_sleep(3600)");
    eventually(|| {
        let locks = operator.locks().unwrap();
        locks.iter().any(|lock| {
            lock.session.pid == holder.pid && lock.object.to_string().contains("advisory")
        })
    });
    waiter.waits(operator, "SELECT pg_advisory_lock(1)");
    let ends = operator.cancel_blockers_of(waiter.pid).unwrap();
    assert_eq!(outcomes(&ends), [(holder.pid, None)]);
    eventually(|| waiter.rests() && holder.rests());
    end(&server, actors.into());
}

#[test]
#[parallel]
fn superusers_prepared_transactions_and_oneself_are_spared_and_so_said() {
    let server = server_with_roles();
    let mut operator = connect_as(&server, "operator");
    let superuser = &mut connect_to(&server);
    superuser
        .batch_execute(
            "BEGIN; SELECT pg_advisory_xact_lock_shared(1); PREPARE TRANSACTION 'payout'",
        )
        .unwrap();
    superuser
        .batch_execute("SELECT pg_advisory_lock_shared(1)")
        .unwrap();
    operator
        .batch_execute("SELECT pg_advisory_lock_shared(1)")
        .unwrap();
    let actors = [
        Actor::of(&server, "app", "holder"),
        Actor::of(&server, "app", "waiter"),
    ];
    let [holder, waiter] = &actors;
    holder.does("SELECT pg_advisory_lock_shared(1)");
    waiter.waits(&mut operator, "SELECT pg_advisory_lock(1)");
    let ends = operator.terminate_blockers_of(waiter.pid).unwrap();
    assert_eq!(
        outcomes(&ends),
        sorted([
            (0, Some(Spared::Prepared)),
            (backend_pid(superuser), Some(Spared::Superuser)),
            (backend_pid(&mut operator), Some(Spared::Own)),
            (holder.pid, None),
        ])
    );
    eventually(|| blockers(&mut operator, waiter.pid).len() == 3);
    let spared = ends
        .iter()
        .find(|end| end.spared == Some(Spared::Superuser))
        .unwrap();
    assert!(!spared.is_ended());
    assert!(
        spared
            .to_string()
            .ends_with(", because it is a superuser's"),
        "{spared}"
    );
    superuser
        .batch_execute("ROLLBACK PREPARED 'payout'")
        .unwrap();
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_filter_and_a_missing_right_leave_sessions_alone_and_the_transaction_usable() {
    let server = server_with_roles();
    let operator = &mut connect_as(&server, "operator");
    let stranger = &mut connect_as(&server, "stranger");
    connect_to(&server)
        .batch_execute("CREATE ROLE reader LOGIN; GRANT pg_read_all_stats TO reader")
        .unwrap();
    let reader = &mut connect_as(&server, "reader");
    let actors = ["report", "billing", "waiter"].map(|name| Actor::of(&server, "app", name));
    let [report, billing, waiter] = &actors;
    report.does("SELECT pg_advisory_lock_shared(1)");
    billing.does("SELECT pg_advisory_lock_shared(1)");
    waiter.waits(operator, "SELECT pg_advisory_lock(1)");
    // Who may not see it, and who may, but not end it: nothing fails.
    for (conn, spared) in [(stranger, Spared::Hidden), (reader, Spared::NotPermitted)] {
        conn.transaction(|conn| {
            let ends = conn.terminate_blockers_of(waiter.pid)?;
            let spared = Some(spared);
            assert_eq!(
                outcomes(&ends),
                sorted([(report.pid, spared), (billing.pid, spared)])
            );
            conn.batch_execute("SELECT 1").map_err(LockError::from)
        })
        .unwrap();
    }
    let is_report =
        |session: &diesel_locks::SessionInfo| session.application.as_deref() == Some("report");
    let ends = operator
        .end_blockers_of(waiter.pid, End::Terminate, is_report)
        .unwrap();
    assert_eq!(outcomes(&ends), [(report.pid, None)]);
    eventually(|| blockers(operator, waiter.pid) == [billing.pid].into());
    end(&server, actors.into());
}

#[test]
#[parallel]
fn who_is_not_in_the_way_any_more_or_has_only_the_pid_of_one_who_was_is_spared() {
    let server = server_with_roles();
    let operator = &mut connect_as(&server, "operator");
    let other = &mut connect_as(&server, "operator");
    let actors = [
        Actor::of(&server, "app", "holder"),
        Actor::of(&server, "app", "waiter"),
    ];
    let [holder, waiter] = &actors;
    holder.does("SELECT pg_advisory_lock(1)");
    waiter.waits(operator, "SELECT pg_advisory_lock(1)");
    let ends = operator.end_blockers_of(waiter.pid, End::Terminate, |_| {
        // Between the look and the end.
        holder.does("SELECT pg_advisory_unlock(1)");
        eventually(|| blockers(other, waiter.pid).is_empty());
        true
    });
    assert_eq!(outcomes(&ends.unwrap()), [(holder.pid, Some(Spared::Gone))]);

    let locks = operator.locks().unwrap();
    let mut session = locks
        .into_iter()
        .find(|lock| lock.session.pid == waiter.pid && lock.granted)
        .unwrap()
        .session;
    let begun = session.backend_start.unwrap();
    session.backend_start = Some(begun - std::time::Duration::from_micros(1));
    let ends = operator
        .end_sessions([session.clone()], End::Terminate)
        .unwrap();
    assert_eq!(outcomes(&ends), [(waiter.pid, Some(Spared::Gone))]);
    session.backend_start = Some(begun);
    let ends = operator.end_sessions([session], End::Terminate).unwrap();
    assert_eq!(outcomes(&ends), [(waiter.pid, None)]);
    end(&server, actors.into());
}
