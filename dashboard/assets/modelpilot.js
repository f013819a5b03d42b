// What the browser has to do by itself. Everything else is in Python.

(() => {
  const { fetch: send } = window;
  // Where the site begins: "/", or the path below which a proxy shows it.
  const { requests_pathname_prefix: root } = JSON.parse(document.getElementById("_dash-config").textContent);

  // A callback that is answered with 401 belongs to a session that has ended: log in, and come back here.
  window.fetch = async (...request) => {
    const answer = await send(...request);
    if (answer.status !== 401) return answer;
    location.assign(`${root}login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {}); // nobody waits for it any more: this page is being left
  };

  const open = (address) => {
    history.pushState({}, "", address);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate")); // what dcc.Link does; dcc.Location listens
  };

  // A link in a cell of a grid: `{text, href}`. Addresses that are neither here nor http(s) stay text.
  window.dashAgGridComponentFunctions = Object.assign({}, window.dashAgGridComponentFunctions, {
    modelpilotLink: ({ value }) => {
      const { text, href } = value ?? {};
      if (!href || !/^(\/(?!\/)|https?:)/.test(href)) return text ?? null;
      const isHere = href.startsWith("/");
      const onClick = (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab is the browser's business
        event.preventDefault();
        open(href);
      };
      const elsewhere = { target: "_blank", rel: "noreferrer" };
      return window.React.createElement("a", { href, className: "mp-link", ...(isHere ? { onClick } : elsewhere) }, text);
    },
  });

  // A row that leads somewhere: a click opens what its first link says, and so does Enter.
  window.dashAgGridFunctions = Object.assign({}, window.dashAgGridFunctions, {
    modelpilotOpen: ({ data, event, type }) => {
      const href = Object.values(data ?? {}).find((cell) => cell?.href)?.href;
      if (!href?.startsWith("/") || href.startsWith("//")) return;
      if (type === "cellKeyDown" && event.key !== "Enter") return;
      // The link in the row opens itself, and whoever marks text wants to copy it.
      if (type === "rowClicked" && (event.target.closest("a") || String(getSelection()))) return;
      open(href);
    },
  });

  let opened = false;
  const grids = new WeakMap(); // what each grid has asked for last

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    modelpilot: {
      // "local" → the IANA name of the browser's time zone.
      zone: (choice) => (choice === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : "UTC"),

      // A new page has a new title, and the keyboard starts at its top; not so for the first one, which nobody left.
      title: (title) => {
        if (title) document.title = `${title} · ModelPilot`;
        if (title && opened) document.getElementById("main")?.focus({ preventScroll: true });
        opened = opened || Boolean(title);
        return window.dash_clientside.no_update;
      },

      // The burger opens and closes the menu; a choice in it closes it, also that of the page that is there already.
      drawer: (isOpen, _clicks) => {
        const byBurger = window.dash_clientside.callback_context.triggered_id === "burger";
        return byBurger ? [Boolean(isOpen), Boolean(isOpen)] : [false, false];
      },

      // Closed by its own button, by Escape or by a click beside it.
      drawerClosed: (isOpen) => (isOpen ? window.dash_clientside.no_update : false),

      paused: (refreshing) => !refreshing,

      // A click on a point of a chart opens what the point's `customdata` ends with: an address on this site.
      follow: (click) => {
        const data = click?.points?.[0]?.customdata;
        const target = Array.isArray(data) ? data[data.length - 1] : data;
        const isHere = typeof target === "string" && target.startsWith("/") && !target.startsWith("//");
        return isHere ? target : window.dash_clientside.no_update;
      },

      // Copies a text to the clipboard, which browsers allow on HTTPS and on this machine only.
      copy: async (clicks, text) => {
        if (!clicks) return window.dash_clientside.no_update;
        try {
          await navigator.clipboard.writeText(text ?? "");
          return "Copied";
        } catch {
          return "The browser does not allow it: open the JSON below and copy it by hand";
        }
      },

      reloadGrid: (search, zone, _clicks, _ticks, id) => {
        const asked = `${search} ${zone}`;
        window.dash_ag_grid?.getApiAsync(id).then((api) => {
          const before = grids.get(api);
          grids.set(api, asked);
          if (before === undefined) return; // a new grid has just asked by itself
          if (before === asked) api.refreshInfiniteCache(); // the same rows again: they stay until the answer is there
          else api.purgeInfiniteCache();
        });
        return window.dash_clientside.no_update;
      },
    },
  });
})();
