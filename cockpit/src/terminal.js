// A console: `consolectl connect PORT` on a pty of cockpit-bridge, as the user who is logged in. Access, write access, take-over and
// the log are therefore those of every other local session.
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Terminal } from "@xterm/xterm";
import { alert, bytes, h, id, setText } from "./dom.js";
import { Keypad } from "./keypad.js";
import { CONDITIONS, condition, settings } from "./ports.js";
import { Silence } from "./silence.js";

const cockpit = window.cockpit;
/** Lines that can be scrolled back in the tab. The port's log has the others. */
const SCROLLBACK = 5000;
/**
 * Output that xterm.js has not parsed yet. Beyond it the tab skips output, since cockpit.js acknowledges every message on arrival
 * and so gives no way to slow the port down. xterm.js parses some 10 MB/s; a serial line brings 0.1 MB/s at most.
 */
const PENDING_MAX = 1 << 20;
/** At least this much of the end of skipped output is kept and shown: some screens. */
const TAIL_MIN = 1 << 15;
/** Skipping ends when no more than this is left to parse. */
const PENDING_LOW = 1 << 16;
/** How long a confirmation stays. */
const PASSING_MS = 4000;

const encoder = new TextEncoder();

/** The bytes of an escape prefix in caret notation, `^Ec`; null for `none`. */
function prefixBytes(notation) {
    const found = [];
    for (let index = 0; index < notation.length; index += 1) {
        if (notation[index] === "^" && index + 1 < notation.length) {
            index += 1;
            found.push(notation[index] === "?" ? 0x7f : notation.toUpperCase().charCodeAt(index) & 0x1f);
        } else {
            found.push(notation.charCodeAt(index));
        }
    }
    return notation === "none" || found.length !== 2 ? null : Uint8Array.from(found);
}

export class Session {
    constructor(consoles, name, since) {
        this.consoles = consoles;
        this.name = name;
        this.pending = 0;
        this.skipping = false;
        this.skipped = 0;
        this.tail = [];
        this.tailBytes = 0;
        this.channel = null;
        this.lostSince = since;
        /** Of the port: it stays when the port is renamed. */
        this.unit = this.port?.unit;
        this.silence = new Silence((since) => this.silent(since));
        this.build();
    }

    get port() {
        return this.consoles.ports.get(this.name);
    }

    build() {
        const action = (label, title, run) => h("button", { title, onclick: () => this.act(run) }, label);
        const command = (letter) => () => this.command(letter);
        this.heading = h("strong", { class: "session-name" }, this.name);
        this.roster = h("span", { class: "muted", role: "status" });
        this.bar = h("div", { class: "session-bar" });
        this.hint = h("span", { class: "muted hint" }, "Shift+F6: from the terminal to the buttons");
        this.keypad = new Keypad(() => this.terminal, (text) => this.type(encoder.encode(text)), () => this.terminal.focus());
        this.keysToggle = h("button", { title: "Keys that an on-screen keyboard or the browser does not send: Esc, Tab, arrows, Ctrl+W", onclick: () => this.showKeypad(this.keypad.element.hidden) }, "Keys");
        this.showKeypad(matchMedia("(pointer: coarse)").matches);
        this.logLink = h("a", { class: "button" }, "Log");
        this.find = h("form", { class: "inline", hidden: true, role: "search" });
        this.message = h("form", { class: "inline", hidden: true });
        this.toolbar = h(
            "div",
            { class: "toolbar", role: "toolbar", "aria-label": `Console ${this.name}` },
            action("Take over", "Take write access from the client that has it (escape command f)", command("f")),
            action("Write", "Take write access if no client has it (a)", command("a")),
            action("Read-only", "Give up write access (s)", command("s")),
            action("Break", "Send a break of half a second (l0)", command("l0")),
            action("Message…", "Send a message to everyone at this console (b)", () => this.toggle(this.message)),
            action("Timestamps", "Show the time before each line, or no longer (t)", command("t")),
            action("Replay", "Print the last lines again (r)", command("r")),
            action("Find…", "Search in the output of this tab", () => this.toggle(this.find)),
            this.keysToggle,
            this.logLink,
            h("button", { class: "leave", title: "End this session", onclick: () => this.consoles.leave(this) }, "Leave"),
        );
        this.buildForms();
        this.screen = h("div", { class: "screen", tabindex: "-1" });
        this.element = h(
            "section",
            { class: "session", "aria-label": `Console ${this.name}`, id: id("session") },
            h("header", {}, this.heading, this.roster, this.hint),
            this.toolbar,
            this.find,
            this.message,
            this.bar,
            this.screen,
            this.keypad.element,
        );
        this.named(this.name);
        this.terminal = new Terminal({
            allowProposedApi: true, // For the decorations of addon-search.
            scrollback: SCROLLBACK,
            fontFamily: "RedHatMono, 'Liberation Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
            fontSize: 14,
            screenReaderMode: localStorage.getItem("consoleserver:screen-reader") === "yes",
            theme: { background: "#151515", foreground: "#f0f0f0" },
            // A device must not be able to offer hyperlinks.
            linkHandler: { activate() {}, allowNonHttpProtocols: false },
        });
        // Title and icon (0, 1, 2), hyperlinks (8) and the clipboard (52) are not for the device to set. xterm.js alone would ignore
        // most of them; this does not depend on later versions.
        for (const ignored of [0, 1, 2, 7, 8, 9, 52, 777, 1337]) this.terminal.parser.registerOscHandler(ignored, () => true);
        this.fit = new FitAddon();
        this.search = new SearchAddon();
        this.terminal.loadAddon(this.fit);
        this.terminal.loadAddon(this.search);
        this.terminal.onData((data) => this.typed(data));
        // Reports of the mouse in bytes that are no UTF-8.
        this.terminal.onBinary((data) => this.type(Uint8Array.from(data, (character) => character.charCodeAt(0))));
        this.terminal.onResize(({ rows, cols }) => this.channel?.control({ window: { rows, cols } }));
        this.terminal.attachCustomKeyEventHandler((event) => this.key(event));
        this.observer = new ResizeObserver(() => this.resize());
    }

    buildForms() {
        const text = h("input", { type: "text", "aria-label": "Find in the output", placeholder: "Find" });
        const find = (backwards) => {
            const hit = backwards ? this.search.findPrevious(text.value) : this.search.findNext(text.value);
            setText(result, hit || !text.value ? "" : "not found");
        };
        const result = h("span", { class: "muted", role: "status" });
        this.find.append(text, h("button", { type: "submit" }, "Previous"), h("button", { type: "button", onclick: () => find(false) }, "Next"), result);
        this.find.addEventListener("submit", (event) => {
            event.preventDefault();
            find(true);
        });
        const message = h("input", { type: "text", maxlength: "200", "aria-label": "Message to everyone at this console", placeholder: "Message" });
        this.message.append(message, h("button", { type: "submit" }, "Send"));
        this.message.addEventListener("submit", (event) => {
            event.preventDefault();
            // Control characters would end the line, or be commands of it.
            const words = message.value.replace(/[\u0000-\u001f\u007f]/g, " ").trim();
            if (words) this.command(`b${words}\r`);
            message.value = "";
            this.message.hidden = true;
            this.terminal.focus();
        });
    }

    toggle(form) {
        form.hidden = !form.hidden;
        if (form.hidden) this.terminal.focus();
        else form.querySelector("input").focus();
        return "keep focus";
    }

    act(run) {
        if (run() !== "keep focus") this.terminal.focus();
    }

    /** Shift+F6 leaves the terminal for its toolbar: all other keys, Tab too, are for the device. */
    key(event) {
        if (event.type === "keydown" && event.key === "F6" && event.shiftKey) {
            this.toolbar.querySelector("button").focus();
            event.preventDefault();
            return false;
        }
        // Ctrl+C copies a selection in place of interrupting what the device does. Without one it is a key as any other.
        const isCopy = event.ctrlKey && !event.altKey && !event.metaKey && event.key.toLowerCase() === "c";
        if (event.type === "keydown" && isCopy && this.terminal.hasSelection()) {
            this.copy(event.shiftKey);
            event.preventDefault();
            return false;
        }
        // The browser's paste.
        return !(event.ctrlKey && event.shiftKey && event.code === "KeyV");
    }

    copy(withShift) {
        // xterm.js handles the copy event with its selection; navigator.clipboard exists only if the page was loaded over TLS.
        const copied = document.execCommand("copy");
        this.terminal.clearSelection();
        if (!copied) this.notice("The browser did not copy the text.");
        else if (!withShift) this.passing("Copied. Without a selection, Ctrl+C is sent to the device.");
    }

    /** Puts the terminal on the page and connects. */
    open() {
        this.terminal.open(this.screen);
        this.observer.observe(this.screen);
        this.resize();
        this.connect();
    }

    resize() {
        if (this.screen.clientWidth > 0 && this.screen.clientHeight > 0) this.fit.fit();
    }

    connect() {
        this.bar.replaceChildren();
        this.ended = false;
        this.skippedTotal = 0;
        this.connectedAt = new Date();
        this.prefix = prefixBytes(this.port?.keys.escape ?? "^Ec");
        const { rows, cols } = this.terminal;
        const words = ["consolectl", "connect"];
        // The buttons need escape keys. Where the port has none, this session has these.
        if (!this.prefix) {
            this.prefix = prefixBytes("^Ec");
            words.push("--escape", "^Ec");
        }
        this.channel = cockpit.channel({
            payload: "stream",
            spawn: [...words, this.name],
            pty: true,
            binary: true,
            environ: ["TERM=xterm-256color"],
            window: { rows, cols },
        });
        this.channel.addEventListener("message", (_event, data) => this.output(data));
        this.channel.addEventListener("close", (_event, options) => this.closed(options));
        if (this.lostSince) this.reportMissed(this.lostSince);
        this.lostSince = null;
        this.consoles.remember();
        this.update();
    }

    /** Keys and pasted text. */
    typed(text) {
        // As in `ttyd`, Enter reconnects after the end of a session.
        if (this.ended && text === "\r") this.again();
        else this.type(encoder.encode(this.keypad.apply(text)));
    }

    type(data) {
        if (!this.channel) return;
        this.channel.send(data);
        this.silence.typed();
    }

    command(letters) {
        if (!this.channel) return;
        const typed = encoder.encode(letters);
        const all = new Uint8Array(this.prefix.length + typed.length);
        all.set(this.prefix);
        all.set(typed, this.prefix.length);
        this.type(all);
    }

    output(data) {
        this.silence.heard();
        if (this.skipping) {
            this.keep(data);
            if (this.pending <= PENDING_LOW) this.resume();
        } else if (this.pending > PENDING_MAX) {
            this.skipping = true;
            this.keep(data);
        } else this.write(data);
    }

    write(data) {
        this.pending += data.length;
        this.terminal.write(data, () => {
            this.pending -= data.length;
            if (this.skipping && this.pending === 0) this.resume();
        });
    }

    /** The end of what is skipped, which may be the prompt of the device. */
    keep(data) {
        this.tail.push(data);
        this.tailBytes += data.length;
        while (this.tailBytes - this.tail[0].length >= TAIL_MIN) {
            const dropped = this.tail.shift().length;
            this.tailBytes -= dropped;
            this.skipped += dropped;
        }
    }

    resume() {
        const { tail } = this;
        this.skipping = false;
        this.tail = [];
        this.tailBytes = 0;
        if (this.skipped > 0) this.tellSkipped();
        for (const data of tail) this.write(data);
    }

    tellSkipped() {
        this.skippedTotal += this.skipped;
        // CAN ends a control sequence that was cut in two; SGR 0 ends its colours.
        this.terminal.write(`\x18\x1b[0m\r\n[this tab skipped ${this.skipped} bytes; the log has them]\r\n`);
        this.skipped = 0;
        // In the terminal it scrolls away with what follows.
        this.notice(
            `This tab has skipped ${bytes(this.skippedTotal)} of the output since ${this.connectedAt.toLocaleTimeString()}; the log has them.`,
            h("a", { class: "button", href: this.logAddress }, "Log"),
            h("button", { onclick: () => this.bar.replaceChildren() }, "Close"),
        );
    }

    closed({ problem, message, "exit-status": status }) {
        this.channel = null;
        this.ended = true;
        this.silence.heard();
        if (this.left) return;
        let why = "The session has ended.";
        if (problem === "not-found") why = "consolectl was not found: is the package consoleserver installed?";
        else if (problem) why = `The connection to this machine was lost${message ? `: ${message}` : ""}.`;
        else if (status) why = "The session has ended; the last line says why.";
        this.notice(why, h("button", { class: "primary", onclick: () => this.again() }, "Connect again (Enter)"));
        if (problem) this.lostSince = { at: Date.now(), received: this.port?.received ?? null };
        this.update();
    }

    again() {
        this.connect();
        this.terminal.focus();
    }

    notice(text, ...more) {
        const line = alert("warning", text, ...more);
        this.bar.replaceChildren(line);
        return line;
    }

    /** A sentence that goes by itself. */
    passing(text) {
        const line = alert("", text);
        this.bar.replaceChildren(line);
        setTimeout(() => line.remove(), PASSING_MS);
    }

    silent(since) {
        this.silenceLine?.remove();
        this.silenceLine = since && this.notice(`The server has not replied since ${new Date(since).toLocaleTimeString()}. Input is sent to the device when the connection is back.`);
    }

    showKeypad(shown) {
        this.keypad.element.hidden = !shown;
        this.keysToggle.setAttribute("aria-pressed", String(shown));
    }

    /** The port's name, at first and after it was renamed. */
    named(name) {
        this.name = name;
        setText(this.heading, name);
        this.element.setAttribute("aria-label", `Console ${name}`);
        this.toolbar.setAttribute("aria-label", `Console ${name}`);
        this.logLink.href = this.logAddress;
    }

    get logAddress() {
        return `#/log/${encodeURIComponent(this.name)}`;
    }

    /** After a lost connection: what the device has sent in the meantime. */
    async reportMissed({ at, received }) {
        await this.consoles.ports.poll();
        const now = this.port?.received;
        const time = new Date(at);
        const amount = received !== null && now !== null && now !== undefined ? now - received : null;
        const since = time.toISOString().slice(0, 19);
        const what = amount === null ? "" : amount > 0 ? ` Since then the device has sent up to ${bytes(amount)}.` : " The device has sent nothing since then.";
        this.notice(
            `This tab was disconnected at ${time.toLocaleTimeString()}.${what}`,
            h("a", { class: "button", href: `#/log/${encodeURIComponent(this.name)}?since=${since}Z` }, "Log since then"),
            h("button", { onclick: () => this.bar.replaceChildren() }, "Close"),
        );
    }

    update() {
        const port = this.port;
        if (!port) {
            setText(this.roster, "This port no longer exists.");
            return;
        }
        const [symbol, word] = CONDITIONS[condition(port)];
        const people = port.sessions.map((session) => `${session.user}: ${session.writes ? "read-write" : "read-only"}`);
        const state = condition(port) === "failed" || condition(port) === "unplugged" ? port.state : word;
        setText(this.roster, [`${symbol} ${state}`, settings(port.keys), port.keys.description, ...people].filter(Boolean).join(" · "));
    }

    dispose() {
        this.left = true;
        this.observer.disconnect();
        this.silence.close();
        this.channel?.close();
        this.terminal.dispose();
        this.element.remove();
    }
}
