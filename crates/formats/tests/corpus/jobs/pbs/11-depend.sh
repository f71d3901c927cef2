#!/bin/bash
#PBS -W depend=afterok:123.server.example.org:124,afterany:125
#PBS -W block=true
#PBS -W umask=027
./post
