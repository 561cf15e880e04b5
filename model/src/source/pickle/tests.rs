//! Programs by hand; files by torch and hostile ones are in `tests/tests/single_files.rs`.

use super::*;

fn error(program: &[u8]) -> String {
    match read(program) {
        Ok(_) => panic!("expected an error"),
        Err(error) => error,
    }
}

#[test]
fn a_dictionary() {
    // {"a": (1, -2), "b": [0.5]} as protocol 2 writes it.
    let program = b"\x80\x02}(X\x01\0\0\0aK\x01J\xfe\xff\xff\xff\x86X\x01\0\0\0b]G\x3f\xe0\0\0\0\0\0\0au.";
    let pickle = read(program).expect("a valid program");
    assert_eq!(pickle.length, program.len());
    let Value::Dict(pairs) = &pickle.values[pickle.root] else { panic!("a dictionary") };
    let [(a, tuple), (b, list)] = pairs[..] else { panic!("two pairs") };
    assert!(matches!(pickle.values[a], Value::Text("a")) && matches!(pickle.values[b], Value::Text("b")));
    let Value::Tuple(items) = &pickle.values[tuple] else { panic!("a tuple") };
    assert!(
        matches!(pickle.values[items[0]], Value::Int(1)) && matches!(pickle.values[items[1]], Value::Int(-2))
    );
    let Value::List(items) = &pickle.values[list] else { panic!("a list") };
    assert!(matches!(pickle.values[items[0]], Value::Float(0.5)));
}

#[test]
fn whatever_may_run_code_is_refused_by_name() {
    for (program, name) in [
        (&b"cos\nsystem\n(X\x02\0\0\0lstR."[..], "`os.system`"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "`os.system`"),
        (b"(X\x02\0\0\0lsios\nsystem\n.", "`os.system`"),
        (b"ctorch.storage\n_load_from_bytes\n.", "`torch.storage._load_from_bytes`"),
        (b"\x82\x01.", "0x82"),
    ] {
        let found = error(program);
        assert!(found.contains(name), "{found}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let program = b"\x80\x02}(X\x01\0\0\0aK\x01\x85u.";
    read(program).expect("a valid program");
    for length in 0..program.len() {
        assert!(read(&program[..length]).is_err(), "{length} bytes");
    }
    for program in [&b"."[..], b"0.", b"(.", b"e.", b"\x86.", b"h\x07.", b"]K\x01s.", b"K\x01K\x02R."] {
        error(program);
    }
}

/// A million lists in each other are a million values in a row; none holds another.
#[test]
fn depth_costs_no_stack() {
    let mut program = vec![b']'; 1_000_000];
    program.extend(vec![b'a'; 999_999]);
    program.push(b'.');
    assert_eq!(read(&program).expect("lists").values.len(), 1_000_000);
}

#[test]
fn a_list_is_not_copied_over_and_over() {
    let pair = b"K\x01K\x02\x86";
    let mut program = b"](".to_vec();
    (0..1000).for_each(|_| program.extend(pair));
    program.extend(b"eq\x01");
    (0..1000).for_each(|_| program.extend(b"ccollections\nOrderedDict\nh\x01\x85R"));
    program.push(b'.');
    assert!(error(&program).contains("over and over"));
}
