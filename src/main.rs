//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(rivet::cli::main(std::env::args_os()))
}
