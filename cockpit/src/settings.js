// The settings of a port: a form over the candidate. Every value is checked by the daemon, whose sentence is shown.
import { manager, portCall, portKeys, variant } from "./bus.js";
import { alert, h, id, naturally, plain, sentence, setText } from "./dom.js";
import { KEYS, parse, show } from "./keys.js";

const cockpit = window.cockpit;

export class Settings {
    constructor(ports) {
        this.ports = ports;
        this.name = null;
        /** The keys of the port, and of which reading of the configuration they are. */
        this.keys = null;
        this.keysOf = null;
        this.edited = new Set();
        this.fields = new Map();
        this.choice = h("select", { "aria-label": "Port", onchange: () => cockpit.location.go(["settings", this.choice.value]) });
        this.result = h("div", { role: "status" });
        this.form = h("form", { class: "fields", onsubmit: (event) => event.preventDefault() });
        for (const key of KEYS) this.field(key);
        this.state = h("p", { class: "muted" });
        this.triggers = h("div");
        const button = (label, run, kind = "") => h("button", { class: kind, onclick: () => this.run(label, run) }, label);
        this.element = h(
            "div",
            { class: "page" },
            h("div", { class: "filters" }, h("label", {}, "Port ", this.choice), this.state),
            this.form,
            h("p", { class: "muted" }, "A change goes into the candidate and is checked at once. Reload applies it to the port; commit keeps it."),
            h(
                "div",
                { class: "actions" },
                button("Set", () => this.set(), "primary"),
                button("Discard edits", () => this.discard()),
                button("Reload port", () => this.call("Reload")),
                h("a", { class: "button", href: "#/changes" }, "Changes and commit"),
                h("span", { class: "grow" }),
                button("Start", () => this.call("Start")),
                button("Stop", () => this.call("Stop")),
                button("Send break", () => this.call("SendBreak", [500], "u")),
            ),
            this.result,
            this.triggers,
        );
        ports.addEventListener("change", () => this.draw());
    }

    field(key) {
        const name = id("key");
        const touched = () => this.edited.add(key.name);
        let input;
        if (key.type === "flag") input = h("input", { id: name, type: "checkbox", onchange: touched });
        else if (key.options) input = h("select", { id: name, onchange: touched }, ...key.options.map((value, index) => h("option", { value: String(value) }, key.names?.[index] || String(value))));
        else {
            const list = key.choices && h("datalist", { id: id("choices") }, ...key.choices.map((value) => h("option", { value: String(value) })));
            input = h("input", { id: name, type: "text", list: list?.id, oninput: touched, autocomplete: "off", spellcheck: "false" });
            if (list) this.form.append(list);
        }
        const note = h("span", { class: "muted", id: id("note") });
        input.setAttribute("aria-describedby", note.id);
        const reset = h("button", { type: "button", hidden: true, title: "Take the key out of the port's own table", onclick: () => this.run("Use the default", () => manager("Unset", [this.name, key.name, this.ports.manager.Revision], "sst")) }, "Default");
        this.form.append(h("label", { for: name }, key.label), input, h("span", {}, note, " ", reset));
        this.fields.set(key.name, { key, input, note, reset });
    }

    open(name) {
        const known = this.ports.get(name) ? name : this.name || this.ports.first();
        if (known !== this.name) {
            this.name = known;
            this.keys = null;
            this.edited.clear();
            this.result.replaceChildren();
        }
        this.draw();
    }

    draw() {
        if (!this.element.isConnected) return;
        const names = [...this.ports.all.keys()].sort((a, b) => naturally(a, b));
        if (names.join("\n") !== this.names) {
            this.names = names.join("\n");
            this.choice.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
        }
        this.choice.value = this.name || "";
        const port = this.ports.get(this.name);
        if (port) this.load(port);
        this.form.hidden = !port || !this.keys;
        if (this.form.hidden) return;
        const { candidate, running, committed, origins } = this.keys;
        for (const { key, input, note, reset } of this.fields.values()) {
            const value = candidate[key.name];
            if (!this.edited.has(key.name)) {
                if (key.type === "flag") input.checked = Boolean(value);
                else if (input.value !== show(value)) input.value = show(value);
            }
            const differs = (other) => Object.keys(other).length > 0 && show(other[key.name]) !== show(value);
            const notes = [key.help];
            const origin = origins?.[key.name];
            if (origin && !["port", "built-in"].includes(origin)) notes.push(`from ${origin}`);
            if (differs(running)) notes.push(`runs with ${show(running[key.name]) || "nothing"}`);
            if (differs(committed)) notes.push(`committed: ${show(committed[key.name]) || "nothing"}`);
            setText(note, plain(notes.filter(Boolean).join(" · ")));
            input.classList.toggle("differs", differs(running) || differs(committed));
            reset.hidden = origin !== "port" || ["device", "description"].includes(key.name);
        }
        setText(this.state, [plain(port.state || ""), this.ports.mayAdminister ? "" : "Read-only: changes require root or membership in the group sudo, unless polkit grants them to others."].filter(Boolean).join(" · "));
        const triggers = Object.entries(candidate).filter(([key]) => key.startsWith("triggers."));
        this.triggers.replaceChildren(...(triggers.length ? [h("h2", {}, "Triggers"), h("ul", {}, ...triggers.map(([key, value]) => h("li", {}, h("code", {}, plain(`${key} = ${show(value)}`)))))] : []));
    }

    /** Reads the keys, unless they are those of the last listing: the configuration changes with one. */
    async load(port) {
        const listing = `${this.ports.listings} ${port.name}`;
        if (this.keysOf === listing) return;
        this.keysOf = listing;
        try {
            const keys = await portKeys(port);
            if (this.keysOf !== listing) return;
            this.keys = keys;
        } catch (error) {
            this.say("danger", `The settings of ${port.name} cannot be read: ${sentence(error)}`);
        }
        this.draw();
    }

    /** Sets every edited key at once: all of them or none. */
    async set() {
        const { candidate } = this.keys;
        const values = [];
        const unset = [];
        for (const name of this.edited) {
            const { key, input } = this.fields.get(name);
            const text = key.type === "flag" ? String(input.checked) : input.value;
            if (key.optional && !text.trim()) {
                if (name in candidate) unset.push([this.name, name]);
                continue;
            }
            const value = parse(key, text);
            if (show(value) !== show(candidate[name])) values.push([this.name, name, variant(value)]);
        }
        const remarks = [];
        let revision = this.ports.manager.Revision;
        if (values.length) {
            remarks.push(...(await manager("SetMany", [[], values, revision], "asa(ssv)t"))[0]);
            revision = 0; // Ours is the last change now.
        }
        if (unset.length) remarks.push(...(await manager("UnsetMany", [unset, revision], "a(ss)t"))[0]);
        if (!values.length && !unset.length) remarks.push("Nothing has changed.");
        this.edited.clear();
        return [remarks];
    }

    discard() {
        this.edited.clear();
        this.draw();
    }

    call(member, args = [], type = "") {
        return portCall(this.ports.get(this.name).path, member, args, type);
    }

    async run(label, action) {
        this.result.replaceChildren();
        try {
            const [remarks] = (await action()) || [];
            this.say("", `${label}: done.${Array.isArray(remarks) && remarks.length ? `\n${remarks.join("\n")}` : ""}`);
        } catch (error) {
            this.say("danger", `${label}: ${sentence(error)}`);
        }
        await this.ports.list();
    }

    say(kind, text) {
        this.result.replaceChildren(alert(kind, text));
    }
}
