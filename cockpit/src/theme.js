// Light or dark, as chosen in Cockpit's own menu (`shell:style`) or by the system.

function apply(style = localStorage.getItem("shell:style") || "auto") {
    const dark = style === "dark" || (style === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.classList.toggle("dark", dark);
}

export function followTheme() {
    apply();
    // The shell, another frame of the same origin, writes the setting and notifies the visible frame by an event.
    window.addEventListener("storage", (event) => event.key === "shell:style" && apply());
    window.addEventListener("cockpit-style", (event) => event instanceof CustomEvent && apply(event.detail.style));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply());
}
