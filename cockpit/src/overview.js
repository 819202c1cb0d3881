// The table of all ports. Rows are updated in place, so that focus, selection and scrolling stay.
import { printed } from "./bus.js";
import { bytes, dateTime, h, naturally, plain, setText } from "./dom.js";
import { parseLine, parsePort } from "./log.js";
import { CONDITIONS, TROUBLE, condition, settings } from "./ports.js";

const cockpit = window.cockpit;
/** States that are a sentence of the port. */
const SENTENCES = ["failed", "unplugged", "open"];
/** Ports whose last line is read by one process: the command line stays short, and so does the answer. */
const LINES_AT_ONCE = 64;
/**
 * How often the last line of a port is read again: for each port `consolectl log` is a client, which costs more than all its counters.
 * Only rows in view are read.
 */
const LINES_MS = 30_000;
/** Rows that come into view while the user scrolls are read together. */
const SCROLL_MS = 300;
/** The last lines may be records, of who came and went. */
const LINES_READ = 8;

export class Overview {
    constructor(ports) {
        this.ports = ports;
        this.rows = new Map();
        this.withoutLog = new Set();
        /** Names of the ports whose rows are in view. */
        this.inView = new Set();
        this.observer = new IntersectionObserver((entries) => this.scrolled(entries));
        this.linesAt = 0;
        this.filter = h("input", { type: "search", "aria-label": "Filter the ports", placeholder: "Filter by name, description, state or user", oninput: () => this.draw() });
        this.condition = h("select", { "aria-label": "State", onchange: () => this.draw() }, h("option", { value: "" }, "All states"), ...Object.entries(CONDITIONS).map(([key, [symbol, word]]) => h("option", { value: key }, `${symbol} ${word}`)));
        this.group = h("select", { "aria-label": "Group", onchange: () => this.draw() });
        this.summary = h("span", { class: "muted", role: "status" });
        this.body = h("tbody");
        this.table = h(
            "table",
            { class: "ports", "aria-label": "Serial consoles" },
            h("thead", {}, h("tr", {}, ...["Port", "State", "Settings", "Users", "Received", "Sent", "Errors", "Last line", ""].map((title) => (title ? h("th", { scope: "col" }, title) : h("td", {}, ""))))),
            this.body,
        );
        this.triggered = h("section", { class: "triggered", hidden: true, "aria-label": "Triggers" });
        this.element = h(
            "div",
            { class: "page" },
            h("div", { class: "filters" }, this.filter, this.condition, this.group, this.summary),
            this.triggered,
            h("div", { class: "scroll" }, this.table),
        );
        ports.addEventListener("change", () => this.draw());
        ports.addEventListener("poll", () => this.readLines());
        ports.addEventListener("triggered", () => this.drawTriggered());
    }

    /** The ports of `[groups]`, as the manager has them. */
    groups() {
        const keys = this.ports.manager?.Candidate || {};
        return Object.entries(keys)
            .filter(([key, value]) => key.startsWith("groups.") && Array.isArray(value))
            .map(([key, value]) => [key.slice("groups.".length), value]);
    }

    drawGroups() {
        const groups = this.groups();
        const signature = groups.map(([name]) => name).join("\n");
        if (signature === this.groupSignature) return;
        this.groupSignature = signature;
        const chosen = this.group.value;
        this.group.replaceChildren(h("option", { value: "" }, "All groups"), ...groups.map(([name]) => h("option", { value: name }, `@${name}`)));
        this.group.value = groups.some(([name]) => name === chosen) ? chosen : "";
        this.group.hidden = groups.length === 0;
    }

    draw() {
        if (!this.element.isConnected) return;
        this.drawGroups();
        const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        const isMember = this.group.value ? membership(this.groups().find(([name]) => name === this.group.value)?.[1] || []) : () => true;
        const order = [...this.ports.all.values()].sort((a, b) => naturally(a.name, b.name));
        for (const [name, row] of this.rows) {
            if (!this.ports.all.has(name)) {
                row.element.remove();
                this.observer.unobserve(row.element);
                this.inView.delete(name);
                this.rows.delete(name);
            }
        }
        let shown = 0;
        let place = this.body.firstChild;
        for (const port of order) {
            const row = this.row(port);
            row.update(port);
            const text = [port.name, port.keys.description, port.state, CONDITIONS[condition(port)][1], ...port.sessions.map(({ user }) => user)].join(" ").toLowerCase();
            const visible =
                words.every((word) => text.includes(word)) &&
                (!this.condition.value || this.condition.value === condition(port)) &&
                isMember(port.name);
            row.element.hidden = !visible;
            shown += visible ? 1 : 0;
            if (row.element === place) place = place.nextSibling;
            else this.body.insertBefore(row.element, place);
        }
        // For the tests: how long it took from the beginning of the navigation.
        if (order.length && !this.drawnAt) this.drawnAt = performance.now();
        const count = (kind, word) => {
            const number = order.filter((port) => condition(port) === kind).length;
            return number || kind === "open" ? `, ${number} ${word}` : "";
        };
        setText(this.summary, `${shown === order.length ? "" : `${shown} of `}${order.length} ${order.length === 1 ? "port" : "ports"}${count("open", "open")}${count("unplugged", "unplugged")}${count("failed", "not working")}`);
    }

    row(port) {
        let row = this.rows.get(port.name);
        if (!row) {
            row = new Row(port.name, this.ports);
            this.rows.set(port.name, row);
            this.observer.observe(row.element);
        }
        return row;
    }

    scrolled(entries) {
        for (const { target, isIntersecting } of entries) {
            if (isIntersecting) this.inView.add(target.dataset.port);
            else this.inView.delete(target.dataset.port);
        }
        clearTimeout(this.scrollTimer);
        this.scrollTimer = setTimeout(() => this.readLines(), SCROLL_MS);
    }

    /** The last line of each port in view that has received something since the last reading, as far as the user may read logs: by one process. */
    async readLines() {
        if (!this.element.isConnected || cockpit.hidden || this.reading) return;
        // A port that printed nothing denies its log to this user, or has none. It is asked again after a change of the configuration.
        const key = `${this.ports.manager?.Revision} ${[...this.ports.all.keys()].join(" ")}`;
        if (key !== this.linesKey) this.withoutLog.clear();
        this.linesKey = key;
        const due = Date.now() - this.linesAt >= LINES_MS;
        const ports = [...this.ports.all.values()]
            .filter((port) => this.inView.has(port.name) && condition(port) === "open" && !this.withoutLog.has(port.name))
            .filter((port) => port.received > 0 && port.lineAt !== port.received && (due || port.lineAt === undefined))
            .slice(0, LINES_AT_ONCE);
        if (ports.length === 0) return;
        if (due) this.linesAt = Date.now();
        this.reading = true;
        for (const port of ports) port.lineAt = port.received;
        const names = ports.map(({ name }) => name);
        // (It prints nothing and fails if all deny it, or if one of the ports has been removed, which changes the key.)
        const lines = lastLines(await printed(["log", names.join(","), "-n", String(LINES_READ)]).catch(() => ""), names);
        for (const port of ports) {
            if (lines.has(port.name)) port.lastLine = lines.get(port.name) || port.lastLine;
            else this.withoutLog.add(port.name);
        }
        this.reading = false;
        this.draw();
    }

    drawTriggered() {
        this.triggered.hidden = this.ports.triggered.length === 0;
        this.triggered.replaceChildren(
            h("h2", {}, "Triggers that have fired"),
            h("ul", {}, ...this.ports.triggered.slice(0, 5).map(({ port, rule, line, at }) => h("li", {}, h("a", { href: `#/log/${encodeURIComponent(port)}` }, port), ` ${dateTime(at)} ${plain(rule)}: `, h("code", {}, plain(line))))),
        );
    }
}

/** Port → its device's last line, of the output of `consolectl log`, which names the port if there are several; "" if it has only records. */
function lastLines(text, names) {
    const found = new Map();
    for (const line of text.split("\n").filter(Boolean)) {
        const [name, rest] = names.length === 1 ? [names[0], line] : parsePort(line);
        const { kind, text: said } = parseLine(rest);
        found.set(name, kind === "<" || kind === "" ? said : found.get(name) || "");
    }
    return found;
}

/** Whether a port is one of a group's members: `p[01-48]` is a range, `*` and `?` are those of a shell. */
function membership(members) {
    const names = members.flatMap(expand);
    const plainNames = new Set(names);
    const globs = names
        .filter((name) => /[*?]/.test(name))
        .map((name) => new RegExp(`^${name.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`));
    return (name) => plainNames.has(name) || globs.some((glob) => glob.test(name));
}

function expand(member) {
    const range = /^(.*)\[(\d+)-(\d+)\](.*)$/.exec(member);
    if (!range) return [member];
    const [, before, first, last, after] = range;
    const names = [];
    for (let number = Number(first); number <= Number(last) && names.length < 4096; number += 1) {
        for (const begin of expand(before)) names.push(`${begin}${String(number).padStart(first.length, "0")}${after}`);
    }
    return names;
}

class Row {
    constructor(name, ports) {
        this.ports = ports;
        const cell = (title, ...children) => h("td", { "data-label": title }, ...children);
        this.symbol = h("span", { class: "symbol", "aria-hidden": "true" });
        this.word = h("span", {});
        this.why = h("div", { class: "why muted" });
        this.description = h("div", { class: "muted" });
        this.settings = h("span", {});
        this.users = h("span", {});
        this.received = h("span", {});
        this.sent = h("span", {});
        this.errors = h("span", {});
        this.line = h("code", { class: "last-line" });
        this.link = h("a", { href: `#/console/${encodeURIComponent(name)}` }, name);
        const to = (page, label) => h("a", { href: `#/${page}/${encodeURIComponent(name)}`, "aria-label": `${label} of ${name}` }, label);
        this.journal = h("a", { target: "_parent", "aria-label": `Journal of ${name}` }, "Journal");
        this.element = h(
            "tr",
            { "data-port": name },
            h("th", { scope: "row" }, this.link, this.description),
            cell("State", this.symbol, " ", this.word, this.why),
            cell("Settings", this.settings),
            cell("Users", this.users),
            cell("Received", this.received),
            cell("Sent", this.sent),
            cell("Errors", this.errors),
            cell("Last line", this.line),
            h("td", { class: "links" }, to("log", "Log"), to("settings", "Settings"), this.journal),
        );
    }

    update(port) {
        const kind = condition(port);
        const [symbol, word] = CONDITIONS[kind];
        const why = this.explanation(port, kind);
        const { keys, unit, sessions, received, sent, errors, lastLine } = port;
        const shown = JSON.stringify([kind, why, keys.description, settings(keys), unit, sessions, received, sent, errors, lastLine]);
        if (shown === this.shown) return;
        this.shown = shown;
        this.element.className = `is-${kind}`;
        setText(this.symbol, symbol);
        setText(this.word, word);
        setText(this.why, why);
        setText(this.description, plain(keys.description || ""));
        setText(this.settings, plain(settings(keys)));
        setText(this.users, sessions.map(({ user, writes }) => `${user}${writes ? " ✎" : ""}`).join(", "));
        this.users.title = sessions.map(({ user, from, writes }) => `${user} from ${from}, ${writes ? "read-write" : "read-only"}`).join("\n");
        setText(this.received, received ? bytes(received) : "");
        setText(this.sent, sent ? bytes(sent) : "");
        setText(this.errors, errors ? String(errors) : "");
        setText(this.line, plain(lastLine).slice(0, 200));
        if (port.unit) this.journal.href = `/system/logs#/?priority=info&service=${encodeURIComponent(port.unit)}`;
    }

    /** What the state's word leaves out, what would help in doctor's words, and what the log has lost. */
    explanation(port, kind) {
        const { state = "", logLost } = port;
        const own = SENTENCES.includes(kind) && state !== CONDITIONS[kind][1] ? state.replace(/^unplugged (?=since)/, "") : "";
        const finding = TROUBLE.includes(kind) && this.ports.findings.find((found) => found.port === port.name);
        const lost = logLost ? `${bytes(logLost)} of the output are missing in the log` : "";
        return plain([own || finding?.problem, finding?.fix, lost].filter(Boolean).join(" — "));
    }
}
