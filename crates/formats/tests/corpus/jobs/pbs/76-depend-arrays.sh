#!/bin/sh
#PBS -t 1-4
#PBS -W depend=afterokarray:1200[]
#PBS -W depend=afteranyarray:1201[].head:1202[]
#PBS -W depend=afternotokarray:1203[]
./second
