// The table of all ports. Rows are updated in place, so that focus, selection and scrolling stay.
import { consolectl } from "./bus.js";
import { bytes, h, naturally, plain, setText } from "./dom.js";
import { parseLine } from "./log.js";
import { CONDITIONS, condition, effective, settings } from "./ports.js";

/** Only these need an explanation. */
const TROUBLE = ["failed", "unplugged", "absent"];
/** Ports whose last line is read at once: the command line stays short, and so does the answer. */
const LINES_AT_ONCE = 64;

export class Overview {
    constructor(ports) {
        this.ports = ports;
        this.rows = new Map();
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
        const members = this.group.value && new Set((this.groups().find(([name]) => name === this.group.value)?.[1] || []).flatMap(expand));
        const order = [...this.ports.all.values()].sort((a, b) => naturally(a.name, b.name));
        let shown = 0;
        let place = this.body.firstChild;
        for (const port of order) {
            const row = this.row(port);
            row.update(port);
            const text = [port.name, effective(port).description, port.state, CONDITIONS[condition(port)][1], ...port.sessions.map(({ user }) => user)].join(" ").toLowerCase();
            const visible =
                words.every((word) => text.includes(word)) &&
                (!this.condition.value || this.condition.value === condition(port)) &&
                (!members || members.has(port.name));
            row.element.hidden = !visible;
            shown += visible ? 1 : 0;
            if (row.element === place) place = place.nextSibling;
            else this.body.insertBefore(row.element, place);
        }
        for (const [name, row] of this.rows) {
            if (!this.ports.all.has(name)) {
                row.element.remove();
                this.rows.delete(name);
            }
        }
        // For the tests: how long it took from the beginning of the navigation.
        if (order.length && !this.drawnAt) this.drawnAt = performance.now();
        const open = order.filter((port) => condition(port) === "open").length;
        const failed = order.filter((port) => condition(port) === "failed").length;
        setText(this.summary, `${shown === order.length ? "" : `${shown} of `}${order.length} ${order.length === 1 ? "port" : "ports"}, ${open} open${failed ? `, ${failed} not working` : ""}`);
    }

    row(port) {
        let row = this.rows.get(port.name);
        if (!row) {
            row = new Row(port.name, this.ports);
            this.rows.set(port.name, row);
        }
        return row;
    }

    /** The last line of each port that has received something since the last reading, as far as the user may read logs. */
    async readLines() {
        if (!this.element.isConnected || document.hidden || this.reading) return;
        this.reading = true;
        const wanted = [...this.ports.all.values()]
            .filter((port) => condition(port) === "open" && port.received > 0 && port.lineAt !== port.received)
            .slice(0, LINES_AT_ONCE);
        try {
            await Promise.all(
                wanted.map(async (port) => {
                    port.lineAt = port.received;
                    try {
                        // The last ones may be notes, of who came and went.
                        const lines = (await consolectl(["log", port.name, "-n", "8"])).trimEnd().split("\n").map(parseLine);
                        port.lastLine = lines.reverse().find(({ kind }) => kind === "<" || kind === "")?.text || "";
                    } catch {
                        // Not in the port's groups, or no log: the column stays empty.
                        port.lastLine = "";
                    }
                }),
            );
        } finally {
            this.reading = false;
        }
        if (wanted.length) this.draw();
    }

    drawTriggered() {
        this.triggered.hidden = this.ports.triggered.length === 0;
        this.triggered.replaceChildren(
            h("h2", {}, "Triggers that have fired"),
            h("ul", {}, ...this.ports.triggered.slice(0, 5).map(({ port, rule, line, at }) => h("li", {}, h("a", { href: `#/log/${encodeURIComponent(port)}` }, port), ` ${at.toLocaleTimeString()} ${rule}: `, h("code", {}, plain(line))))),
        );
    }
}

/** The ports that a member of a group means: `p[01-48]` is a range. A `*` or `?` is matched against nothing here. */
function expand(member) {
    const range = /^(.*)\[(\d+)-(\d+)\](.*)$/.exec(member);
    if (!range) return [member];
    const [, before, first, last, after] = range;
    const names = [];
    for (let number = Number(first); number <= Number(last) && names.length < 4096; number += 1) {
        names.push(`${before}${String(number).padStart(first.length, "0")}${after}`);
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
        const keys = effective(port);
        this.element.className = `is-${kind}`;
        setText(this.symbol, symbol);
        setText(this.word, kind === "failed" ? "error" : word);
        setText(this.why, this.explanation(port, kind));
        setText(this.description, plain(keys.description || ""));
        setText(this.settings, settings(keys));
        setText(this.users, port.sessions.map((session) => `${session.user}${session.writes ? " ✎" : ""}`).join(", "));
        this.users.title = port.sessions.map((session) => `${session.user} from ${session.from}, ${session.writes ? "read-write" : "read-only"}`).join("\n");
        setText(this.received, port.received ? bytes(port.received) : "");
        setText(this.sent, port.sent ? bytes(port.sent) : "");
        setText(this.errors, port.errors ? String(port.errors) : "");
        setText(this.line, plain(port.lastLine || "").slice(0, 200));
        if (port.unit) this.journal.href = `/system/logs#/?priority=info&service=${encodeURIComponent(port.unit)}`;
    }

    /** The state's own sentence, which says what would help; otherwise what doctor has found. */
    explanation(port, kind) {
        const state = port.state || "";
        const own = kind === "failed" || (kind === "unplugged" && state !== "unplugged") || (kind === "open" && state !== "open") ? state : "";
        const finding = TROUBLE.includes(kind) && this.ports.findings.find((found) => found.port === port.name);
        return plain(own || (finding ? `${finding.problem} — ${finding.fix}` : ""));
    }
}
