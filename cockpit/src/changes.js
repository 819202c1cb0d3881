// Uncommitted changes: a banner on every page, and a page with the differences and the commands for them.
import { MANAGER, TOP, manager, property } from "./bus.js";
import { alert, dateTime, h, plain, sentence, setText } from "./dom.js";
import { show } from "./keys.js";

const MINUTES = 5;

export class Changes {
    constructor(ports) {
        this.ports = ports;
        this.deadline = 0;
        this.changes = [];
        this.banner = h("div", { class: "banner" });
        this.result = h("div", { role: "status" });
        this.table = h("tbody");
        this.feed = h("p", { class: "muted" });
        this.conflicts = h("div");
        this.error = h("div");
        this.empty = h("p", {});
        this.minutes = h("input", { type: "number", min: "1", max: "1440", value: String(MINUTES), "aria-label": "Minutes until the commit is rolled back unless confirmed" });
        this.diff = h("table", { class: "diff", "aria-label": "Uncommitted changes" }, h("thead", {}, h("tr", {}, ...["Key", "Committed", "New", "Changed by", "When"].map((title) => h("th", { scope: "col" }, title)))), this.table);
        this.buttons = [];
        const button = (label, run, kind = "", name = label) => {
            this.buttons.push(h("button", { class: kind, onclick: () => this.run(name, run) }, label));
            return this.buttons.at(-1);
        };
        this.actions = h(
            "div",
            { class: "actions" },
            button("Reload", () => this.reload()),
            button("Commit", () => manager("Commit", [this.revision], "t"), "primary"),
            button("Commit mine", () => manager("CommitMine", [this.revision, 0], "tu")),
            h("span", {}, button("Commit, and roll back unless confirmed within", () => this.commitConfirmed(), "", "Commit until confirmed"), " ", this.minutes, " minutes"),
            button("Revert all", () => manager("Revert"), "danger"),
        );
        this.help = h("p", { class: "muted" }, "Reload applies changes to the ports, and sessions stay. Commit also writes them to the disk. A commit that waits for its confirmation is rolled back when its time is over, even if this connection is cut.");
        this.rights = h("p", { class: "muted" });
        this.element = h("div", { class: "page" }, h("h2", {}, "Uncommitted changes"), this.rights, this.error, this.conflicts, this.empty, h("div", { class: "scroll" }, this.diff), this.actions, this.help, this.result, this.feed);
        ports.addEventListener("change", () => this.update());
    }

    /** The revision of the changes that are shown: an action on them is rejected if another user has made a change since. */
    get revision() {
        return this.seenRevision || 0;
    }

    async update() {
        const state = this.ports.manager;
        if (!state || state === this.seenState) return;
        this.seenState = state;
        // Only of a state that was just read: ConfirmWithin is seconds from then on.
        this.deadline = state.ConfirmWithin ? Date.now() + state.ConfirmWithin * 1000 : 0;
        try {
            // In this order: a change between the two makes the revision too old, and what is done with it is refused.
            const revision = await property(TOP, MANAGER, "Revision");
            const [changes] = await manager("Changes");
            if (state !== this.seenState) return;
            this.changes = changes;
            this.seenRevision = revision;
            this.error.replaceChildren();
        } catch (error) {
            this.error.replaceChildren(alert("danger", `The changes cannot be read: ${sentence(error)}`));
        }
        this.drawBanner();
        this.draw();
    }

    drawBanner() {
        const state = this.ports.manager;
        if (!state) return;
        const uncommitted = state.Uncommitted;
        this.countdown = h("strong", { role: "timer" });
        const parts = [];
        if (this.deadline) {
            parts.push(
                alert(
                    "warning",
                    ["A commit is rolled back in ", this.countdown, " unless it is confirmed."],
                    h("button", { class: "primary", onclick: () => this.run("Confirm", () => manager("Confirm")) }, "Confirm"),
                    h("button", { class: "danger", onclick: () => this.run("Roll back", () => manager("Revert")) }, "Roll back now"),
                ),
            );
        }
        if (uncommitted > 0 && !this.element.isConnected) {
            const people = new Map();
            for (const [, , , who] of this.changes) people.set(who, (people.get(who) || 0) + 1);
            const by = [...people].map(([who, count]) => `${who}: ${count}`).join(", ");
            parts.push(
                alert(
                    "",
                    `${uncommitted} ${uncommitted === 1 ? "change is" : "changes are"} not committed${by ? ` (${by})` : ""}.`,
                    h("a", { class: "button", href: "#/changes" }, "Show"),
                ),
            );
        }
        this.banner.replaceChildren(...parts);
        clearInterval(this.timer);
        if (!this.deadline) return;
        this.timer = setInterval(() => this.tick(), 1000);
        this.tick();
    }

    tick() {
        const left = Math.max(0, Math.round((this.deadline - Date.now()) / 1000));
        setText(this.countdown, `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`);
        if (left === 0) {
            clearInterval(this.timer);
            this.ports.listSoon();
        }
    }

    open() {
        this.drawBanner();
    }

    draw() {
        if (!this.element.isConnected) {
            this.drawBanner();
            return;
        }
        const { changes } = this;
        this.empty.hidden = changes.length > 0;
        setText(this.empty, this.deadline ? "No further changes. The last commit waits for its confirmation: see above." : "No uncommitted changes: the running configuration is the committed one.");
        for (const button of this.buttons) button.disabled = changes.length === 0;
        this.diff.hidden = changes.length === 0;
        this.table.replaceChildren(
            ...changes.map(([key, old, now, who, when]) =>
                h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, plain(key)),
                    h("td", {}, h("del", {}, plain(show(old)) || "(not set)")),
                    h("td", {}, h("ins", {}, plain(show(now)) || "(not set)")),
                    h("td", {}, who),
                    h("td", {}, dateTime(new Date(when))),
                ),
            ),
        );
        const conflicts = this.ports.manager?.Conflicts || [];
        this.conflicts.replaceChildren(...conflicts.map((text) => alert("warning", text)));
        setText(this.rights, this.ports.mayAdminister ? "" : "Read-only: changes require root or membership in the group sudo, unless polkit grants them to others.");
        const { lastChange } = this.ports;
        const [who, when, count] = this.ports.manager?.LastCommit || [];
        setText(
            this.feed,
            [
                lastChange && plain(`${dateTime(lastChange.at)} ${lastChange.text}.`),
                when && `Last commit: ${who}, ${dateTime(new Date(when))}, ${count} ${count === 1 ? "change" : "changes"}.`,
            ]
                .filter(Boolean)
                .join(" "),
        );
    }

    /** Applies what is not committed: of each port that has changes, and of the other tables. */
    async reload() {
        const known = [...this.ports.all.keys()];
        const names = new Set();
        let others = false;
        for (const [key] of this.changes) {
            // A port's name may contain dots: the longest name that fits is meant.
            const rest = key.startsWith("ports.") ? key.slice("ports.".length) : null;
            const name = rest && known.filter((port) => rest === port || rest.startsWith(`${port}.`)).sort((a, b) => b.length - a.length)[0];
            if (name) names.add(name);
            else others = true;
        }
        const remarks = [];
        if (others) remarks.push(...(await manager("Reload"))[0]);
        if (names.size) remarks.push(...(await manager("ReloadPorts", [[...names]], "as"))[0]);
        return [remarks];
    }

    commitConfirmed() {
        const minutes = Number(this.minutes.value);
        if (!Number.isInteger(minutes) || minutes < 1 || minutes > 1440) {
            throw new Error("The time for the confirmation is from 1 to 1440 minutes.");
        }
        return manager("CommitConfirmed", [this.revision, minutes * 60], "tu");
    }

    /** Does it, and shows the remarks or why it was refused. */
    async run(label, action) {
        this.result.replaceChildren();
        try {
            const [remarks] = (await action()) || [];
            const said = Array.isArray(remarks) && remarks.length ? remarks.join("\n") : "";
            this.say("", `${label}: done.${said ? `\n${said}` : ""}`);
        } catch (error) {
            this.say("danger", `${label}: ${sentence(error)}`);
        }
        await this.ports.list();
    }

    say(kind, text) {
        const line = alert(kind, text);
        if (this.element.isConnected) this.result.replaceChildren(line);
        else {
            const close = h("button", { onclick: () => line.remove() }, "Close");
            line.append(close);
            this.banner.append(line);
        }
    }
}
