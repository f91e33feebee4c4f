//! The man pages: those of the commands from the definitions of the arguments, that of the
//! configuration file from the comments in `proxy.toml.example`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use tidegate::config::explain::reference::{ReferenceBlock, ReferenceTable, tables};

use super::{Arguments, CONFIG_DEFAULT};

/// Writes the man pages to a directory: `tidegate.1`, `tidegate-ctl.1`, `tidegate-ctl-status.1` and so
/// on for the commands, `tidegate.8` for the daemon, `proxy.toml.5` for its configuration file.
///
/// # Errors
///
/// The error of the file system, with the path of the file.
pub fn write(directory: &Path) -> io::Result<()> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    write_pages(&root, directory)?;
    write_page(directory, "proxy.toml.5", &config_page(EXAMPLE)?)
}

fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("tidegate").source(SOURCE);
    if command.get_name() == "run" {
        // The page of the command is that of the daemon.
        write_page(directory, &man.get_filename(), b".so man8/tidegate.8\n")?;
        let man = man.title("tidegate").section("8");
        return write_page(directory, "tidegate.8", &render_page(command, &man)?);
    }
    write_page(directory, &man.get_filename(), &render_page(command, &man)?)?;
    let mut visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    visible.try_for_each(|command| write_pages(command, directory))
}

fn write_page(directory: &Path, name: &str, page: &[u8]) -> io::Result<()> {
    let path = directory.join(name);
    fs::write(&path, page)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn render_page(command: &clap::Command, man: &Man) -> io::Result<Vec<u8>> {
    let is_daemon = command.get_name() == "run";
    let name = match is_daemon {
        true => "tidegate",
        false => command.get_display_name().unwrap_or_else(|| command.get_name()),
    };
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let program = Arguments::command();
    let about = if is_daemon { program.get_about() } else { command.get_about() };
    let about = about.map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SH NAME\n{} \\- {}", escape_roff(name), escape_roff(&about))?;
    write_synopsis(&mut page, command)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let examples = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        write!(page, ".SH EXAMPLES\n.nf\n{}\n.fi\n", escape_roff(examples))?;
    }
    let ctl = name.starts_with("tidegate-ctl");
    if is_daemon {
        page.extend_from_slice(SIGNALS.as_bytes());
    }
    page.extend_from_slice(if ctl { CTL_EXIT_STATUS } else { EXIT_STATUS }.as_bytes());
    if is_daemon {
        page.extend_from_slice(DAEMON_FILES.as_bytes());
    }
    if ctl {
        page.extend_from_slice(CTL_FILES.as_bytes());
    }
    write_see_also(&mut page, name, if is_daemon { '8' } else { '1' })?;
    Ok(page)
}

/// The options with their values, which the library leaves out.
fn write_synopsis(page: &mut Vec<u8>, command: &clap::Command) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    write!(page, ".SH SYNOPSIS\n\\fB{}\\fR", escape_roff(name))?;
    let shown = || command.get_arguments().filter(|argument| !argument.is_hide_set());
    for option in shown().filter(|argument| !argument.is_positional()) {
        let short = option.get_short().map(|short| format!("-{short}"));
        let names = short.into_iter().chain(option.get_long().map(|long| format!("--{long}")));
        let names: Vec<String> =
            names.map(|name| format!("\\fB{}\\fR", escape_roff(&name))).collect();
        let value = match option.get_action().takes_values() {
            true => format!(" {}", value_name(option)),
            false => String::new(),
        };
        write!(page, " [{}{value}]", names.join("|"))?;
    }
    for value in shown().filter(|argument| argument.is_positional()) {
        match value.is_required_set() {
            true => write!(page, " {}", value_name(value))?,
            false => write!(page, " [{}]", value_name(value))?,
        }
    }
    if command.has_subcommands() {
        write!(page, " \\fISUBCOMMAND\\fR")?;
    }
    writeln!(page)
}

fn value_name(argument: &clap::Arg) -> String {
    let name = argument.get_value_names().and_then(|names| names.first());
    let name = name.map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string);
    let is_list = argument.get_num_args().is_some_and(|number| number.max_values() > 1);
    let more = if is_list && argument.is_positional() { "..." } else { "" };
    format!("\\fI{}\\fR{more}", escape_roff(&name))
}

fn write_see_also(page: &mut Vec<u8>, name: &str, section: char) -> io::Result<()> {
    let others = SEE_ALSO.iter().filter(|other| **other != (name, section));
    let others =
        others.map(|(other, section)| format!("\\fB{}\\fR({section})", escape_roff(other)));
    writeln!(page, ".SH \"SEE ALSO\"\n{}", others.collect::<Vec<_>>().join(",\n"))
}

/// The page of the configuration file.
fn config_page(example: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    write!(
        page,
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH proxy.toml 5 \"\" \"{}\" \"tidegate\"\n{}",
        escape_roff(SOURCE),
        CONFIG_INTRO.replace("CONFIG_DEFAULT", &escape_roff(CONFIG_DEFAULT))
    )?;
    for table in tables(example) {
        write_table(&mut page, &table)?;
    }
    write!(
        page,
        ".SH FILES\n.TP\n.I {}\nThe file of the shipped unit.\n",
        escape_roff(CONFIG_DEFAULT)
    )?;
    write_see_also(&mut page, "proxy.toml", '5')?;
    Ok(page)
}

fn write_table(page: &mut Vec<u8>, table: &ReferenceTable) -> io::Result<()> {
    writeln!(page, ".SH \"{}\"", escape_roff(&table.header))?;
    for block in &table.intro {
        match block {
            ReferenceBlock::Words(words) => writeln!(page, ".PP\n{}", text_line(words))?,
            ReferenceBlock::Code(code) => {
                let code: Vec<String> = code.lines().map(text_line).collect();
                writeln!(page, ".PP\n.RS 4\n.nf\n{}\n.fi\n.RE", code.join("\n"))?;
            }
        }
    }
    if table.is_like_another() {
        return Ok(());
    }
    for row in &table.rows {
        for (index, (key, value)) in row.keys.iter().enumerate() {
            let tag = if index == 0 { ".TP" } else { ".TQ" };
            writeln!(page, "{tag}\n\\fB{}\\fR = {}", escape_roff(key), escape_roff(value))?;
        }
        let words = match row.words.as_str() {
            "" => "As in the table above.",
            words => words,
        };
        writeln!(page, "{}", text_line(words))?;
    }
    Ok(())
}

/// A line of text. One that begins with a dot or a quote would be a request.
fn text_line(text: &str) -> String {
    let escaped = escape_roff(text);
    if escaped.starts_with(['.', '\\']) { format!("\\&{escaped}") } else { escaped }
}

/// Escapes text for roff. Lines that begin with a dot are not supported.
fn escape_roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

const EXAMPLE: &str = include_str!("../../proxy.toml.example");

const SOURCE: &str = concat!("tidegate ", env!("CARGO_PKG_VERSION"));

const SEE_ALSO: [(&str, char); 5] = [
    ("tidegate", '1'),
    ("tidegate-check", '1'),
    ("tidegate-ctl", '1'),
    ("proxy.toml", '5'),
    ("tidegate", '8'),
];

const CONFIG_INTRO: &str = r#".SH NAME
proxy.toml \- configuration of tidegate
.SH DESCRIPTION
The file is in the format TOML, \fICONFIG_DEFAULT\fR by default.
\fBtidegate check\fR reports all its errors with their lines and what to write instead;
\fBtidegate check \-\-diff\fR shows what a reload would change;
\fBtidegate ctl config\fR shows the value of every key in a running process.
.PP
On SIGHUP the file is read again and applied as a whole, or not at all if it has an error.
Relative paths start at the directory of the file.
There are no includes, and variables are not filled in.
.PP
Times are one whole number with ms, s, m, h or d (hsts: s, m, h, d or y); sizes are whole numbers with B, KiB, MiB or GiB;
rates are whole numbers per second: "50/s", or "64KiB/s" for bytes.
A limit cannot be 0; to disable one, write "off" where that is allowed.
.PP
This is a complete configuration:
.PP
.RS 4
.nf
[[listener]]
address = "0.0.0.0:443"

[[certificate]]
chain = "fullchain.pem"
key = "privkey.pem"

[[route]]
host = "chat.example.com"
origins = ["same\-origin", "missing"]
backends = ["127.0.0.1:9001"]
.fi
.RE
.PP
The keys follow with their defaults; those of [[listener]], [[certificate]] and [[route]] that have none
with an example.
"#;

const SIGNALS: &str = r#".SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Close all tunnels, spread over \fBdrain.window\fR, and exit; a second one closes what is left at once.
.TP
.B SIGHUP
Read the configuration file and the certificates again. Open tunnels stay open.
.TP
.B SIGUSR2
Start the installed program as a new process and hand the listening sockets over to it.
"#;

const DAEMON_FILES: &str = r#".SH FILES
.TP
.I /etc/tidegate/proxy.toml
The configuration, see \fBproxy.toml\fR(5).
.TP
.I /run/tidegate/control.sock
The control socket of the shipped unit, for \fBtidegate ctl\fR.
.TP
.I /var/lib/tidegate/acme
Accounts, certificates and keys that \fB[acme]\fR has ordered.
.SH ENVIRONMENT
.TP
.B STATE_DIRECTORY
The directory of ordered certificates if \fBacme.state_directory\fR is not set.
.TP
.B RUNTIME_DIRECTORY
The directory of the control socket if \fBcontrol.socket\fR is "auto".
.TP
.BR LISTEN_FDS ", " LISTEN_PID
Listening sockets that systemd passes.
.TP
.B NOTIFY_SOCKET
Where systemd is notified of the state of the process.
"#;

const EXIT_STATUS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Success: the file is valid, or the process has shut down after a signal.
.TP
.B 1
The command failed; standard error has the reason.
.TP
.B 2
The command line is invalid.
.TP
.B 69
The proxy cannot be reached over the control socket, or did not answer properly.
.TP
.B 78
The configuration is invalid; standard error lists every error.
"#;

const CTL_EXIT_STATUS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
The command was carried out, also if there was nothing to do: no tunnel matches, or nothing is drained.
\fBexplain\fR has answered, whatever the answer.
.TP
.B 1
The command failed or was rejected; standard error has the reason.
.TP
.B 2
The command line is invalid.
.TP
.B 69
The proxy cannot be reached over the control socket, or did not answer properly.
.TP
.B 78
The configuration to reload is invalid; standard error lists every error.
"#;

const CTL_FILES: &str = r#".SH FILES
.TP
.I /run/tidegate/control.sock
The control socket of the shipped unit. Only root and the user that tidegate runs as may use it.
.SH ENVIRONMENT
.TP
.B TIDEGATE_SOCKET
The path of the control socket if \fB\-\-socket\fR is not given.
.TP
.B RUNTIME_DIRECTORY
The directory of control.sock if neither is given.
.TP
.B NO_COLOR
If set, output is neither bold nor coloured.
"#;

#[cfg(test)]
mod tests {
    use tidegate::config::schema::known_keys;

    use super::*;

    #[test]
    fn config_page_has_every_key_and_table() {
        let page = String::from_utf8(config_page(EXAMPLE).unwrap()).unwrap();
        for key in known_keys().iter().filter(|key| !key.contains(".backends[].")) {
            let name = key.rsplit('.').next().unwrap();
            let is_table = known_keys().iter().any(|other| other.starts_with(&format!("{key}.")))
                || ["listener", "certificate", "route"].contains(&name);
            let wanted = match is_table && name != "backends" {
                true => format!("{name}]"),
                false => format!("\\fB{}\\fR = ", escape_roff(name)),
            };
            assert!(page.contains(&wanted), "{wanted} is not in the page");
        }
    }

    #[test]
    fn synopsis_has_the_values_of_options() {
        let mut root = Arguments::command();
        root.build();
        let synopsis = |path: &[&str]| {
            let mut command = &root;
            for name in path {
                command = command.find_subcommand(name).unwrap();
            }
            let mut page = Vec::new();
            write_synopsis(&mut page, command).unwrap();
            let text = String::from_utf8(page).unwrap().replace("\\fB", "").replace("\\fI", "");
            text.replace("\\fR", "").replace("\\-", "-").replace(".SH SYNOPSIS\n", "")
        };
        assert_eq!(synopsis(&["run"]), "tidegate run [-c|--config FILE] [-h|--help]\n");
        let canary = synopsis(&["ctl", "canary"]);
        assert!(canary.starts_with("tidegate ctl canary [--socket PATH] [--json]"), "{canary}");
        assert!(canary.ends_with(" POOL SHARE|off|file\n"), "{canary}");
        let kill = synopsis(&["ctl", "kill"]);
        assert!(kill.contains("[--older AGE]") && kill.ends_with(" [ID...]\n"), "{kill}");
        assert!(synopsis(&["ctl"]).ends_with(" SUBCOMMAND\n"), "{}", synopsis(&["ctl"]));
    }

    #[test]
    fn text_never_becomes_a_request() {
        for text in [".SH x", "'br", "\\fB"] {
            assert!(!text_line(text).starts_with(['.', '\'']), "{text}");
        }
    }
}
