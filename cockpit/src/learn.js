// A port for a new adapter: for one that is plugged in already, or for the next one, by `consolectl learn`.
import { consolectl, json, manager, variant } from "./bus.js";
import { alert, h, plain, sentence } from "./dom.js";

const SECONDS = 60;

export class Learn {
    constructor(ports) {
        this.ports = ports;
        this.name = h("input", { type: "text", "aria-label": "Name of the port", placeholder: "core-switch", required: true, pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]*" });
        this.start = h("button", { class: "primary", type: "submit" }, "Wait for the adapter");
        this.cancel = h("button", { type: "button", hidden: true, onclick: () => this.process?.close("cancelled") }, "Cancel");
        this.form = h("form", { class: "inline", onsubmit: (event) => this.learn(event) }, h("label", {}, "Port ", this.name), this.start, this.cancel);
        this.said = h("div", { role: "status" });
        this.adapters = h("div");
        this.element = h(
            "div",
            { class: "page" },
            h("h2", {}, "The next adapter"),
            h("p", {}, "Enter the name of a port, press the button, and plug the adapter in. The port is bound to that USB socket, and created if it does not exist."),
            this.form,
            this.said,
            h("h2", {}, "Adapters without a port"),
            this.adapters,
        );
    }

    open() {
        this.list();
    }

    async list() {
        try {
            const adapters = await json(["list", "--unconfigured"]);
            this.adapters.replaceChildren(
                adapters.length
                    ? h("ul", {}, ...adapters.map((adapter) => this.adapter(adapter)))
                    : h("p", { class: "muted" }, "Each USB adapter that is plugged in has a port, or none is plugged in."),
            );
        } catch (error) {
            this.adapters.replaceChildren(alert("danger", sentence(error)));
        }
    }

    adapter(adapter) {
        const path = adapter.path || `/dev/${adapter.tty}`;
        const name = h("input", { type: "text", "aria-label": `Name of a new port for ${path}` });
        const label = [adapter.maker, adapter.product, adapter.serial, path].filter(Boolean).join(" · ");
        const create = async (event) => {
            event.preventDefault();
            try {
                await manager("SetMany", [[name.value], [[name.value, "device", variant(path)]], 0], "asa(ssv)t");
                this.created(name.value);
            } catch (error) {
                this.say("danger", sentence(error));
            }
            await this.ports.list();
            await this.list();
        };
        return h("li", {}, plain(label), h("form", { class: "inline", onsubmit: create }, name, h("button", { type: "submit" }, "Create port")));
    }

    async learn(event) {
        event.preventDefault();
        const name = this.name.value.trim();
        const before = Date.now();
        const wait = h("span", {});
        this.said.replaceChildren(alert("warning", ["Plug the adapter in now. ", wait]));
        const tick = () => (wait.textContent = `${Math.max(0, SECONDS - Math.round((Date.now() - before) / 1000))} s left.`);
        tick();
        const timer = setInterval(tick, 1000);
        this.start.disabled = true;
        this.cancel.hidden = false;
        try {
            this.process = consolectl(["learn", "--timeout", String(SECONDS), name]);
            this.process.stream((output) => (wait.textContent = plain(output.trim())));
            await this.process;
            this.created(name);
        } catch (error) {
            this.say(error.problem === "cancelled" ? "" : "danger", error.problem === "cancelled" ? "Cancelled: nothing was changed." : sentence(error));
        } finally {
            clearInterval(timer);
            this.process = null;
            this.start.disabled = false;
            this.cancel.hidden = true;
        }
        await this.ports.list();
        await this.list();
    }

    created(name) {
        this.said.replaceChildren(
            alert("", `${name} has its device. The change is not committed yet.`, h("a", { class: "button", href: `#/settings/${encodeURIComponent(name)}` }, "Settings"), h("a", { class: "button", href: "#/changes" }, "Reload and commit")),
        );
    }

    say(kind, text) {
        this.said.replaceChildren(alert(kind, text));
    }
}
