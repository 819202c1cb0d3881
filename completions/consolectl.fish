complete --keep-order --exclusive --command consolectl --arguments "(COMPLETE=fish consolectl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
