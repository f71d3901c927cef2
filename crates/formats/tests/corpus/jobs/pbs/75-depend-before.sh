#!/bin/sh
#PBS -W depend=on:2
#PBS -W depend=beforeok:17.head
#PBS -W depend=beforenotok:18.head
#PBS -W depend=beforeany:19.head
#PBS -W depend=synccount:2
#PBS -W depend=syncwith:20.head
./first
