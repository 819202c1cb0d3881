// The log: its last lines, what is added, a search over rotated files and all ports, the activity of the last day, a download.
// Everything is read by `consolectl log` and `grep` as the user, so that the access groups of a port hold here too.
import { consolectl } from "./bus.js";
import { alert, bytes, dateTime, h, naturally, plain, sentence, setText } from "./dom.js";

const cockpit = window.cockpit;
/** Lines on the page. More make the page slow; the download has all. */
const LINES_MAX = 5000;
/** What the activity of the last day, and a download, read at most: a port at 115200 baud may log 1 GB a day. */
const ACTIVITY_MAX = 20_000_000;
const DOWNLOAD_MAX = 200_000_000;
const BINS = 144;
const BIN_MS = 600_000;

/** `TIME < text`: a line of a text log. `<` is from the device, `>` to it, `#` a note. Other logs have no time. */
export function parseLine(line) {
    const found = /^(\d{4}-\d\d-\d\dT\S+) ([<>#]) ?(.*)$/s.exec(line);
    if (!found) return { time: null, kind: "", text: line };
    const time = new Date(found[1]);
    return { time: Number.isNaN(time.getTime()) ? null : time, kind: found[2], text: found[3] };
}

/** `PORT: LINE`, as commands for several ports print it; a port that is not served has more words in brackets. */
export function parsePort(line) {
    const found = /^([A-Za-z0-9_][A-Za-z0-9._-]*(?: \([^)]*\))?): (.*)$/s.exec(line);
    return found ? [found[1], found[2]] : [null, line];
}

export class Log {
    constructor(ports) {
        this.ports = ports;
        this.name = null;
        this.following = null;
        this.lines = [];
        this.choice = h("select", { "aria-label": "Port", onchange: () => cockpit.location.go(["log", this.choice.value]) });
        this.count = h("select", { "aria-label": "Lines", onchange: () => this.load() }, ...[100, 1000, LINES_MAX].map((count) => h("option", { value: String(count) }, `last ${count} lines`)));
        this.since = h("input", { type: "text", "aria-label": "Since", placeholder: "since: 2h, yesterday, 2026-11-29T03:00", class: "time" });
        this.until = h("input", { type: "text", "aria-label": "Until", placeholder: "until: now", class: "time" });
        this.follow = h("button", { "aria-pressed": "false", onclick: () => this.toggleFollow() }, "Follow");
        this.utc = h("button", { "aria-pressed": "false", onclick: () => this.toggleUtc() }, "UTC");
        this.pattern = h("input", { type: "search", "aria-label": "Regular expression", placeholder: "Search: a regular expression" });
        this.ignoreCase = h("input", { type: "checkbox", checked: true });
        this.everywhere = h("input", { type: "checkbox" });
        this.status = h("span", { class: "muted", role: "status" });
        this.output = h("div", { class: "log-lines", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
        this.heat = h("div", { class: "heat", role: "group", "aria-label": "Activity of the last day" });
        this.heatScale = h("div", { class: "heat-scale" });
        this.error = h("div");
        this.element = h(
            "div",
            { class: "page" },
            h(
                "form",
                { class: "filters", onsubmit: (event) => this.submitted(event, () => this.load()) },
                h("label", {}, "Port ", this.choice),
                this.count,
                this.since,
                this.until,
                h("button", { type: "submit" }, "Show"),
                this.follow,
                this.utc,
                h("button", { type: "button", onclick: () => this.download() }, "Download"),
            ),
            h(
                "form",
                { class: "filters", role: "search", onsubmit: (event) => this.submitted(event, () => this.search()) },
                this.pattern,
                h("label", {}, this.ignoreCase, " ignore case"),
                h("label", {}, this.everywhere, " all ports"),
                h("button", { type: "submit" }, "Search"),
                this.status,
            ),
            this.heat,
            this.heatScale,
            this.error,
            this.output,
        );
        for (const button of [this.follow, this.utc]) button.setAttribute("type", "button");
        ports.addEventListener("change", () => this.drawChoice());
    }

    submitted(event, run) {
        event.preventDefault();
        run();
    }

    drawChoice() {
        if (!this.element.isConnected) {
            // The added lines are out of view.
            this.stopFollowing();
            return;
        }
        const names = [...this.ports.all.keys()].sort((a, b) => naturally(a, b));
        if (names.join("\n") !== this.names) {
            this.names = names.join("\n");
            this.choice.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
        }
        this.choice.value = this.name || "";
    }

    open(name, options = {}) {
        const opened = this.ports.get(name) ? name : this.name || this.ports.first();
        const since = options.since || "";
        if (opened === this.name && since === this.openedSince) {
            this.drawChoice();
            return;
        }
        this.stopFollowing();
        this.name = opened;
        this.openedSince = since;
        this.since.value = since;
        this.until.value = "";
        this.drawChoice();
        this.load();
        this.loadActivity();
    }

    /** Words for the time range; `-n` otherwise. */
    range() {
        const words = [];
        if (this.since.value.trim()) words.push("--since", this.since.value.trim());
        if (this.until.value.trim()) words.push("--until", this.until.value.trim());
        return words;
    }

    async load() {
        this.stopFollowing();
        const range = this.range();
        await this.show(["log", this.name, ...(range.length ? range : ["-n", this.count.value])]);
    }

    async search() {
        this.stopFollowing();
        const pattern = this.pattern.value;
        if (!pattern) {
            await this.load();
            return;
        }
        const words = ["grep", ...(this.ignoreCase.checked ? ["-i"] : []), ...this.range(), "--", pattern];
        if (!this.everywhere.checked) words.push(this.name);
        await this.show(words, true);
    }

    /** Runs it and shows its lines; of more than LINES_MAX, the last. */
    async show(words, isSearch = false) {
        this.process?.close("cancelled");
        this.error.replaceChildren();
        setText(this.status, "Reading…");
        this.lines = [];
        let total = 0;
        let rest = "";
        const process = consolectl(words);
        this.process = process;
        process.stream((chunk) => {
            const lines = (rest + chunk).split("\n");
            rest = lines.pop();
            total += lines.length;
            this.lines.push(...lines);
            if (this.lines.length > 2 * LINES_MAX) this.lines.splice(0, this.lines.length - LINES_MAX);
            if (this.process === process) setText(this.status, `Reading… ${total} lines`);
        });
        let error = null;
        try {
            await process;
        } catch (failure) {
            error = failure;
        }
        if (this.process !== process) return;
        this.process = null;
        if (rest) {
            this.lines.push(rest);
            total += 1;
        }
        if (this.lines.length > LINES_MAX) this.lines.splice(0, this.lines.length - LINES_MAX);
        this.isSearch = isSearch;
        this.render();
        this.output.scrollTop = this.output.scrollHeight;
        // The exit status 1 of grep without a message is: no line matches.
        if (error && !(isSearch && error.exit_status === 1 && total === 0 && !error.message?.includes(":"))) {
            this.error.replaceChildren(alert("danger", sentence(error)));
        }
        const what = `${total} ${total === 1 ? "line" : "lines"}`;
        setText(this.status, total > LINES_MAX ? `${what}; the last ${LINES_MAX} are shown` : what);
    }

    render() {
        this.output.replaceChildren(...this.lines.map((line) => this.line(line)));
    }

    line(line) {
        const [port, rest] = this.isSearch ? parsePort(line) : [null, line];
        const { time, kind, text } = parseLine(rest);
        return h("div", { class: kind === "#" ? "muted" : "" }, port && h("strong", {}, `${port} `), time && h("time", { datetime: time.toISOString() }, `${this.time(time)} `), kind === "<" ? "" : `${kind} `, plain(text));
    }

    time(time) {
        return dateTime(time, this.inUtc);
    }

    toggleUtc() {
        this.inUtc = !this.inUtc;
        this.utc.setAttribute("aria-pressed", String(Boolean(this.inUtc)));
        this.render();
        this.drawHeatScale();
    }

    toggleFollow() {
        if (this.following) {
            this.stopFollowing();
            return;
        }
        this.follow.setAttribute("aria-pressed", "true");
        let rest = "";
        this.isSearch = false;
        this.lines = [];
        this.output.replaceChildren();
        const process = consolectl(["log", this.name, "-f", "-n", this.count.value]);
        this.following = process;
        process.stream((chunk) => {
            if (this.following !== process) return;
            const lines = (rest + chunk).split("\n");
            rest = lines.pop();
            this.append(lines);
        });
        process.then(
            () => this.following === process && this.stopFollowing(),
            (error) => {
                if (this.following !== process) return;
                this.stopFollowing();
                this.error.replaceChildren(alert("danger", sentence(error)));
            },
        );
        setText(this.status, "Following");
    }

    append(lines) {
        const atEnd = this.output.scrollHeight - this.output.scrollTop - this.output.clientHeight < 40;
        // A flood brings thousands of lines at once, of which only the last ones stay.
        const kept = lines.slice(-LINES_MAX);
        this.lines.push(...kept);
        this.output.append(...kept.map((line) => this.line(line)));
        while (this.output.childElementCount > LINES_MAX) this.output.firstElementChild.remove();
        if (this.lines.length > 2 * LINES_MAX) this.lines.splice(0, this.lines.length - LINES_MAX);
        if (atEnd) this.output.scrollTop = this.output.scrollHeight;
    }

    stopFollowing() {
        const process = this.following;
        this.following = null;
        process?.close("cancelled");
        this.follow.setAttribute("aria-pressed", "false");
        if (process) setText(this.status, "");
    }

    async download() {
        setText(this.status, "Reading the log…");
        const parts = [];
        let size = 0;
        const range = this.range();
        const process = consolectl(["log", this.name, "--raw", ...(range.length ? range : ["-n", "all"])], { binary: true });
        process.stream((chunk) => {
            size += chunk.length;
            if (size <= DOWNLOAD_MAX) parts.push(chunk);
            else process.close("cancelled");
        });
        try {
            await process;
        } catch (error) {
            if (size <= DOWNLOAD_MAX) {
                this.error.replaceChildren(alert("danger", sentence(error)));
                setText(this.status, "");
                return;
            }
        }
        const url = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
        h("a", { href: url, download: `${this.name}.log` }).click();
        URL.revokeObjectURL(url);
        setText(this.status, size > DOWNLOAD_MAX ? `The log is larger than ${bytes(DOWNLOAD_MAX)}: only its beginning was downloaded. consolectl log ${this.name} -n all prints all of it.` : `${bytes(size)} downloaded`);
    }

    /** Bytes of each ten minutes of the last day, by the times in the log. */
    async loadActivity() {
        const name = this.name;
        const end = Date.now();
        const begin = end - BINS * BIN_MS;
        const bins = new Array(BINS).fill(0);
        let read = 0;
        let rest = "";
        this.heat.replaceChildren();
        this.heatScale.replaceChildren();
        this.activity?.close("cancelled");
        const process = consolectl(["log", name, "--since", "1d"]);
        this.activity = process;
        process.stream((chunk) => {
            read += chunk.length;
            if (read > ACTIVITY_MAX) {
                process.close("cancelled");
                return;
            }
            const lines = (rest + chunk).split("\n");
            rest = lines.pop();
            for (const line of lines) {
                const { time, kind, text } = parseLine(line);
                if (!time || kind !== "<") continue;
                const bin = Math.floor((time.getTime() - begin) / BIN_MS);
                if (bin >= 0 && bin < BINS) bins[bin] += text.length + 1;
            }
        });
        try {
            await process;
        } catch {
            // No access, or no text log: show() reports the reason.
            if (read <= ACTIVITY_MAX) return;
        }
        if (this.activity !== process) return;
        this.activity = null;
        this.bins = { bins, begin, end, cut: read > ACTIVITY_MAX };
        const most = Math.max(...bins);
        if (most === 0) {
            this.heatScale.replaceChildren(h("span", {}, "The device has sent nothing in the last day, or its log has no times."));
            return;
        }
        this.heat.replaceChildren(
            ...bins.map((count, index) => {
                const from = new Date(begin + index * BIN_MS);
                const level = count === 0 ? 0 : 1 + Math.min(3, Math.floor((4 * Math.log1p(count)) / (Math.log1p(most) + 1e-9) - 1e-9));
                const label = `${this.time(from)}: ${bytes(count)} in ten minutes`;
                return h("button", { class: `h${level}`, title: label, "aria-label": label, tabindex: count ? "0" : "-1", onclick: () => this.jump(from) });
            }),
        );
        this.drawHeatScale();
    }

    drawHeatScale() {
        if (!this.bins || !this.heat.childElementCount) return;
        const { begin, end, cut } = this.bins;
        this.heatScale.replaceChildren(h("span", {}, this.time(new Date(begin))), h("span", {}, cut ? `only the first ${bytes(ACTIVITY_MAX)} of the day were counted` : "bytes in ten minutes; select one to see its lines"), h("span", {}, this.time(new Date(end))));
    }

    jump(from) {
        // consolectl takes times of UTC with a Z.
        this.since.value = `${from.toISOString().slice(0, 19)}Z`;
        this.until.value = `${new Date(from.getTime() + BIN_MS).toISOString().slice(0, 19)}Z`;
        this.load();
    }
}
