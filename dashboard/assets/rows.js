// Rows of a grid that lead somewhere: a click opens what the row's `href` (or its first link) says, and so does Enter.

(() => {
  const open = (address) => {
    history.pushState({}, "", address);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate")); // what dcc.Link does; dcc.Location listens
  };

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
})();
