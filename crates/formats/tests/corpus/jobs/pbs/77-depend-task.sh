#!/bin/sh
#PBS -W depend=afterok:512[7].head,afterstartarray:77[].head
./third
