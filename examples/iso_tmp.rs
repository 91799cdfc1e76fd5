use diesel_locks::harness::Spec;
fn main() {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap();
    let out = args.next().unwrap();
    let file = args.next().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let r = Spec::parse(&text)
        .map_err(|e| e.to_string())
        .and_then(|s| s.run(&url).map_err(|e| format!("{e:?}")));
    match r {
        Ok(t) => std::fs::write(out, t.to_string()).unwrap(),
        Err(e) => {
            std::fs::write(out, &e).unwrap();
            eprintln!("{file}: {}", &e[..e.len().min(600)])
        }
    }
}
