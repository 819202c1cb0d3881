// The keys of a port that the page offers, in the order of consoleserver.toml(5). `type` is the D-Bus type of a key. The
// daemon checks every value; `choices` only saves typing. cockpit/test compares this list with the keys that the daemon has.
export const TCP_PORT = "tcp port";
export const KEYS = [
    { name: "enabled", type: "flag", label: "Enabled", help: "Open the port as soon as its device appears, and listen" },
    { name: "description", type: "text", label: "Description", help: "At most 80 characters" },
    { name: "device", type: "text", optional: true, label: "Device", help: "A stable path such as /dev/serial/by-id/…; empty: the entry of the port's name in the monitored directory" },
    { name: "source", type: "text", optional: true, label: "Source", help: "In place of a device: unix:/PATH, tcp:HOST:PORT, telnet:HOST:PORT, rfc2217:HOST:PORT or unit" },
    { name: "on_demand", type: "flag", label: "On demand", help: "Connect to the source only while a session is attached" },
    { name: "keepalive.interval", type: "text", label: "Keepalive", help: "Time without a byte after which the text is sent, such as 5m; never" },
    { name: "keepalive.text", type: "text", label: "Keepalive text", help: "Such as \\r" },
    { name: "break", type: "text", label: "Break", help: "What a break is: \\z is a serial break, ~B a text" },
    { name: "breaks", type: "list", label: "Named breaks", help: "Such as sysrq=\\z\\dh; separated by spaces" },
    { name: "initial", type: "list", label: "Initial steps", help: "Sent and waited for after each connect, a list of texts such as [\"{ send = '\\\\r' }\"]" },
    { name: "like", type: "text", optional: true, label: "Template", help: "Take other keys from [templates.NAME]" },
    { name: "ssh_port", type: TCP_PORT, label: "SSH port", help: "1 to 65535, or none" },
    { name: "listen", type: "list", optional: true, label: "Listen", help: "Addresses, separated by spaces; empty: those of the server" },
    { name: "baud", type: "number", label: "Baud rate", choices: [1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] },
    { name: "bytesize", type: "number", label: "Data bits", options: [5, 6, 7, 8] },
    { name: "parity", type: "text", label: "Parity", options: ["N", "E", "O", "M", "S"], names: ["none", "even", "odd", "mark", "space"] },
    { name: "stopbits", type: "number", label: "Stop bits", options: [1, 2] },
    { name: "rtscts", type: "flag", label: "RTS/CTS", help: "Hardware flow control" },
    { name: "xonxoff", type: "flag", label: "XON/XOFF", help: "Software flow control" },
    { name: "dtr", type: "text", label: "DTR", options: ["leave", "on", "off"] },
    { name: "rts", type: "text", label: "RTS", options: ["leave", "on", "off"] },
    { name: "low_latency", type: "flag", label: "Low latency", help: "Ask the driver to pass on each byte at once" },
    { name: "output_delay", type: "text", label: "Character delay", help: "A pause after each character sent, such as 20ms; none" },
    { name: "output_line_delay", type: "text", label: "Line delay", help: "A pause after each line sent, such as 1s; none" },
    { name: "imap", type: "list", label: "Input mapping", help: "Such as lfcrlf; separated by spaces" },
    { name: "omap", type: "list", label: "Output mapping", help: "Such as crcrlf; separated by spaces" },
    { name: "remote_settings", type: "flag", label: "Remote settings", help: "RFC 2217 clients with write access may set the line until they leave" },
    { name: "rfc2217", type: "text", optional: true, label: "RFC 2217 listener", help: "Without a login, such as [::1]:7001; empty: none" },
    { name: "raw", type: "text", optional: true, label: "Raw TCP listener", help: "Without a login, such as 127.0.0.1:7002; empty: none" },
    { name: "plaintext_beyond_loopback", type: "flag", label: "Plain text beyond loopback", help: "Allow these two at addresses that other machines reach, without login and encryption" },
    { name: "groups", type: "list", optional: true, label: "Groups", help: "May use this console; * is everyone; empty: those of [access]" },
    { name: "users", type: "list", label: "Users", help: "May use this console besides the groups" },
    { name: "read_only_groups", type: "list", label: "Read-only groups", help: "May watch" },
    { name: "write", type: "text", label: "Write access", options: ["one", "shared"] },
    { name: "timeout", type: "number", label: "Idle timeout", help: "Seconds; 0 for none" },
    { name: "escape", type: "text", label: "Escape keys", help: "Such as ^Ec, or none" },
    { name: "reconnect", type: "flag", label: "Reconnect", help: "Sessions stay while the device is unplugged" },
    { name: "replay", type: "number", label: "Replay", help: "Lines shown on connecting" },
    { name: "scrollback", type: "text", label: "Scrollback", help: "Bytes kept in memory, such as 256K" },
    { name: "banner", type: "text", optional: true, label: "Banner", help: "The path of a text file, or none" },
    { name: "log.type", type: "text", label: "Log type", options: ["none", "raw", "text", "hex", "both"] },
    { name: "log.input", type: "flag", label: "Log input", help: "Log what is typed, too" },
    { name: "log.journal", type: "flag", label: "Log to journal", help: "Each line is also a message of the journal" },
    { name: "log.record", type: "flag", label: "Record", help: "Bytes with their times, for a replay" },
    { name: "log.sync", type: "text", label: "Log sync", help: "How often the log is flushed to the disk, such as 5s" },
    { name: "log.file", type: "text", label: "Log file", help: "Inside the port's own directory" },
];

/** The typed value of a form field's text. Throws a sentence. */
export function parse(key, text) {
    const words = text.trim();
    switch (key.type) {
        case "flag":
            return words === "true";
        case "number":
        case TCP_PORT:
            if (key.type === TCP_PORT && words === "none") return words;
            if (!/^\d{1,10}$/.test(words)) throw new Error(`${key.label}: "${words}" is not a number`);
            return Number(words);
        case "list":
            // Words with spaces in them are written as JSON.
            if (words.startsWith('["')) {
                try {
                    return JSON.parse(words);
                } catch (error) {
                    throw new Error(`${key.label}: ${error.message}`);
                }
            }
            return words ? words.split(/[\s,]+/) : [];
        default:
            return text;
    }
}

/** As a form field and the diff show it. */
export function show(value) {
    if (value === undefined || value === null) return "";
    if (Array.isArray(value)) return value.some((word) => /[\s,]/.test(word)) ? JSON.stringify(value) : value.join(" ");
    return String(value);
}
