//! Locks, waits and the graph for programs. Times are in seconds, and what is not known is `null`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diesel_locks::{
    LockInfo, LockKey, LockWait, LockedObject, RelationName, RowName, SessionId, SessionInfo,
    WaitGraph,
};
use serde_json::{Value, json};

pub(crate) fn session(session: &SessionInfo) -> Value {
    json!({
        "pid": session.prepared.is_none().then_some(session.pid),
        "prepared": session.prepared,
        "application": session.application,
        "role": session.user,
        "client": session.client,
        "database": session.database,
        "backend_type": session.backend_type,
        "state": session.state,
        "query": session.query,
        "age": session.age.map(seconds),
        "backend_start": session.backend_start.map(since_1970),
        "leader": session.leader,
        "hidden": session.is_hidden(),
    })
}

pub(crate) fn lock(lock: &LockInfo) -> Value {
    json!({
        "session": session(&lock.session),
        "object": object(&lock.object),
        "mode": lock.mode.to_string(),
        "granted": lock.granted,
        "waiting": lock.waiting.map(seconds),
        "fast_path": lock.fast_path,
    })
}

pub(crate) fn wait(wait: &LockWait) -> Value {
    let mut value = lock(&wait.lock);
    value["blockers"] = wait.blockers.iter().map(id).collect();
    value
}

pub(crate) fn graph(graph: &WaitGraph) -> Value {
    let edges = graph.edges().map(|edge| {
        json!({
            "waiter": id(&edge.waiter.id()),
            "blocker": id(&edge.blocker.id()),
            "object": object(&edge.wait.lock.object),
            "mode": edge.wait.lock.mode.to_string(),
            "waiting": edge.wait.lock.waiting.map(seconds),
        })
    });
    let ids = |sessions: Vec<&SessionInfo>| -> Value {
        sessions.iter().map(|session| id(&session.id())).collect()
    };
    let roots = graph
        .roots()
        .into_iter()
        .map(|root| json!({ "sessions": ids(root.sessions), "holds_up": root.holds_up }));
    json!({
        "sessions": graph.sessions().map(session).collect::<Value>(),
        "edges": edges.collect::<Value>(),
        "roots": roots.collect::<Value>(),
        "cycles": graph.cycles().into_iter().map(ids).collect::<Value>(),
    })
}

/// A backend pid, or the name of a prepared transaction.
fn id(id: &SessionId) -> Value {
    match id {
        SessionId::Pid(pid) => json!({ "pid": pid }),
        SessionId::Prepared(name) => json!({ "prepared": name }),
        other => json!(other.to_string()),
    }
}

fn object(object: &LockedObject) -> Value {
    let mut value = match object {
        LockedObject::Relation(name) => json!({ "kind": "relation", "relation": relation(name) }),
        LockedObject::Extension(name) => json!({ "kind": "extend", "relation": relation(name) }),
        LockedObject::Page {
            relation: name,
            page,
            ..
        } => {
            json!({ "kind": "page", "relation": relation(name), "page": page })
        }
        LockedObject::Row(name) => json!({ "kind": "tuple", "row": row(name) }),
        LockedObject::Transaction { id, row: name, .. } => {
            json!({ "kind": "transactionid", "id": id, "row": name.as_ref().map(row) })
        }
        LockedObject::VirtualTransaction(id) => json!({ "kind": "virtualxid", "id": id }),
        LockedObject::Advisory(key) => json!({ "kind": "advisory", "key": self::key(*key) }),
        LockedObject::Other {
            kind, catalog, id, ..
        } => {
            json!({ "kind": kind, "catalog": catalog, "id": id })
        }
        _ => json!({ "kind": null }),
    };
    value["text"] = object.to_string().into();
    value
}

fn relation(relation: &RelationName) -> Value {
    json!({ "oid": relation.oid, "schema": relation.schema, "name": relation.name })
}

fn row(row: &RowName) -> Value {
    let (page, nth) = row.ctid;
    json!({ "relation": relation(&row.relation), "ctid": format!("({page},{nth})") })
}

/// A number that JavaScript cannot hold is none for everybody: so keys are texts.
fn key(key: LockKey) -> Value {
    match key {
        LockKey::Single(key) => json!(key.to_string()),
        LockKey::Pair(class, object) => json!([class.to_string(), object.to_string()]),
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn since_1970(time: SystemTime) -> Option<f64> {
    time.duration_since(UNIX_EPOCH).ok().map(seconds)
}
