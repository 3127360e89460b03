# One command each; `just` lists them. Everything here can be typed without it.

# Lists the recipes.
default:
    @just --list

# Runs the bridge with the configuration of this folder.
run *arguments:
    cargo run --locked -- run {{ arguments }}

# Shows the whole flow, without an account.
demo *arguments:
    cargo run --release --locked -- demo {{ arguments }}

# Runs the unit and integration tests, or those whose name has the words given.
test *filter:
    cargo test --locked {{ filter }}

# Formats, and lints as CI does.
lint:
    cargo fmt
    cargo lint

# Writes the description of the admin API, src/web/api/openapi.json, after a change of the code.
openapi:
    UPDATE=1 cargo test --locked --lib the_document_is_that_of_the_code

# Builds the documentation of the code.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --features otlp

# Measures, as docs/performance.md has it.
bench *arguments:
    cargo bench --locked {{ arguments }}

# Runs one of the scripts in tests/, such as `just script receivers`.
script name *arguments:
    tests/{{ name }}.sh {{ arguments }}

# Builds the image.
image:
    docker build --build-arg PEPAY_BRIDGE_COMMIT="$(git rev-parse HEAD)" --tag pepay-bridge .

# Runs everything that has to pass.
ci:
    .ci/run
