"""
Fan-out server: nginx with the nchan module, as packaged by Debian or a derivative.

Writes the configuration and executes nginx.
"""

import os
import sys
from pathlib import Path

CONFIGURATION = """
load_module modules/ngx_nchan_module.so;
worker_processes 1;
master_process off;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{
            nchan_publisher websocket;
            nchan_channel_id foo;
            nchan_message_timeout 5s;
            nchan_message_buffer_length 100;
        }}
        location / {{
            nchan_subscriber websocket;
            nchan_channel_id foo;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""

folder = Path.cwd() / "nchan"
folder.mkdir(exist_ok=True)
file = folder / "nginx.conf"
file.write_text(CONFIGURATION.format(folder=folder, port=sys.argv[1]))
modules = Path("/usr/share/nginx") if Path("/usr/share/nginx/modules").exists() else Path("/usr/lib/nginx")
os.execvp("nginx", ["nginx", "-p", str(modules), "-c", str(file)])  # noqa: S606, S607
